package resourceserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

func signedIntrospection(c *Config) {
	introspecting(c)
	c.RequireSignedIntrospection = true
}

// introspectionClaims returns the claims of a response for an active token, with changes; nil
// removes a claim.
func introspectionClaims(changes map[string]any) map[string]any {
	all := map[string]any{"iss": testIssuer, "aud": "api", "iat": time.Now().Unix(), "token_introspection": active(nil)}
	maps.Copy(all, changes)
	maps.DeleteFunc(all, func(_ string, value any) bool { return value == nil })
	return all
}

func TestSignedIntrospectionResponses(t *testing.T) {
	p := newProvider(t)
	other := newProvider(t) // has another key with the same kid
	h := p.guard(t, signedIntrospection).Require("notes.read")(whoami)
	now := time.Now().Unix()
	const typ = oauth.TypIntrospection
	jwt := func(changes map[string]any) string { return p.signed(t, "one", typ, introspectionClaims(changes)) }
	plain, err := json.Marshal(active(nil))
	if err != nil {
		t.Fatal(err)
	}
	unsigned, err := jose.Unsigned(typ, plain)
	if err != nil {
		t.Fatal(err)
	}
	const ok, inactive, forged = http.StatusOK, http.StatusUnauthorized, http.StatusServiceUnavailable
	for _, test := range []struct {
		name     string
		response string
		status   int
	}{
		{"for the client", jwt(nil), ok},
		{"for the resource", jwt(map[string]any{"aud": []string{testResource}}), ok},
		{"with the full media type", p.signed(t, "one", "application/"+typ, introspectionClaims(nil)), ok},
		{"inactive", jwt(map[string]any{"token_introspection": map[string]any{"active": false}}), inactive},
		{"expired token", jwt(map[string]any{"token_introspection": active(map[string]any{"exp": now - 60})}), inactive},
		{"JSON", string(plain), forged},
		{"unsigned", unsigned, forged},
		{"another key", other.signed(t, "one", typ, introspectionClaims(nil)), forged},
		{"no typ", p.signed(t, "one", "", introspectionClaims(nil)), forged},
		{"an access token", p.signed(t, "one", "at+jwt", introspectionClaims(nil)), forged},
		{"another issuer", jwt(map[string]any{"iss": "https://other.example.com"}), forged},
		{"no issuer", jwt(map[string]any{"iss": nil}), forged},
		{"another API", jwt(map[string]any{"aud": "other"}), forged},
		{"no audience", jwt(map[string]any{"aud": nil}), forged},
		{"recorded a minute ago", jwt(map[string]any{"iat": now - 60}), forged},
		{"issued in a minute", jwt(map[string]any{"iat": now + 60}), forged},
		{"no iat", jwt(map[string]any{"iat": nil}), forged},
		{"claims at the top", jwt(map[string]any{"token_introspection": nil, "active": true, "scope": "notes.read"}), forged},
		{"a string", jwt(map[string]any{"token_introspection": "active"}), forged},
	} {
		t.Run(test.name, func(t *testing.T) {
			p.with(func() {
				p.responses["/introspect"] = func(w http.ResponseWriter, r *http.Request) {
					if got := r.Header.Get("Accept"); got != introspectionJWT {
						t.Errorf("Accept is %q", got)
					}
					_, _ = io.WriteString(w, test.response)
				}
			})
			w := call(h, "Bearer opaque-"+strings.ReplaceAll(test.name, " ", ""))
			switch test.status {
			case ok:
				accepted(t, w, "alice")
			case inactive:
				refused(t, w, http.StatusUnauthorized, oauth.InvalidToken)
			default:
				unavailable(t, w)
			}
		})
	}
}

func TestEncryptedIntrospectionResponses(t *testing.T) {
	p := newProvider(t)
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := jose.NewDecrypter("e", private)
	if err != nil {
		t.Fatal(err)
	}
	h := p.guard(t, func(c *Config) {
		signedIntrospection(c)
		c.IntrospectionDecryptionKeys = []*jose.Decrypter{key}
	}).Require()(whoami)
	signed := p.signed(t, "one", oauth.TypIntrospection, introspectionClaims(nil))
	encrypt := func(payload string) string {
		token, err := jose.Encrypt(jose.ECDHES, jose.A256GCM, key.Public(), jose.Message{ContentType: "JWT", Payload: []byte(payload)})
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	respond := func(response string) {
		p.with(func() {
			p.responses["/introspect"] = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, response) }
		})
	}
	respond(encrypt(signed))
	accepted(t, call(h, "Bearer one"), "alice")
	respond(signed)
	unavailable(t, call(h, "Bearer two"))
	respond(encrypt(`{"active":true}`)) // anyone can encrypt to a public key
	unavailable(t, call(h, "Bearer three"))
}

// JW-21, RFC 9701, section 8.1
func TestJW21_AnIntrospectionJWTIsNoAccessToken(t *testing.T) {
	p := newProvider(t)
	members := claims(map[string]any{"token_introspection": active(nil)})
	w := call(p.guard(t, nil).Require()(whoami), "Bearer "+p.signed(t, "one", oauth.TypIntrospection, members))
	refused(t, w, http.StatusUnauthorized, oauth.InvalidToken)
}

func TestSignedIntrospectionNeedsCredentials(t *testing.T) {
	config := Config{Issuer: testIssuer, Resource: testResource, RequireSignedIntrospection: true}
	if _, err := New(config); err == nil {
		t.Error("accepted without a ClientID")
	}
	config = Config{Issuer: testIssuer, Resource: testResource, ClientID: "api", IntrospectionDecryptionKeys: []*jose.Decrypter{nil}}
	if _, err := New(config); err == nil {
		t.Error("IntrospectionDecryptionKeys are accepted without RequireSignedIntrospection")
	}
}

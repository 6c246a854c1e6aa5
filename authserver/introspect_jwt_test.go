package authserver_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/record"
)

// introspectAccepting introspects a token with the given Accept headers.
func (s *scene) introspectAccepting(client, token string, accept ...string) apiResponse {
	r := httptest.NewRequest(http.MethodPost, "/introspect", strings.NewReader(url.Values{"token": {token}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header["Accept"] = accept
	r.SetBasicAuth(client, testSecret)
	return s.do(r)
}

const introspectionJWT = "application/" + oauth.TypIntrospection

// A caller gets each response, signed and encrypted, with the algorithms of its metadata.
func TestIntrospectionJWTsHaveTheAlgorithmsOfTheCaller(t *testing.T) {
	key, keys := encryptionKey(t)
	s := newScene(t, scriptSetup{Clients: []testClient{
		confidential("default"),
		confidential("ps256", func(c *record.Client) { c.IntrospectionSignedResponseAlg = "PS256" }),
		confidential("eddsa", func(c *record.Client) { c.IntrospectionSignedResponseAlg = "EdDSA" }),
		confidential("hs256", func(c *record.Client) { c.IntrospectionSignedResponseAlg = "HS256" }),
		confidential("encrypted", func(c *record.Client) {
			c.JWKS, c.IntrospectionSignedResponseAlg = keys, "ES384"
			c.IntrospectionEncryptedResponseAlg, c.IntrospectionEncryptedResponseEnc = "ECDH-ES", "A256GCM"
		}),
	}})
	s.prepareKeys()
	for _, alg := range []string{"PS256", "EdDSA", "ES384"} {
		if !slices.ContainsFunc(s.keySet(), func(k publishedKey) bool { return k.Alg == alg }) {
			t.Errorf("no key for %s is published before it is used", alg)
		}
	}
	for client, alg := range map[string]jose.Algorithm{"default": jose.RS256, "ps256": jose.PS256, "eddsa": jose.EdDSA, "hs256": jose.HS256, "encrypted": jose.ES384} {
		own := s.post("/token", client, "grant_type", "client_credentials").AccessToken
		for token, active := range map[string]bool{own: true, "unknown": false} {
			a := s.introspectAccepting(client, token, introspectionJWT)
			if a.status != http.StatusOK || a.header.Get("Content-Type") != introspectionJWT || a.header.Get("Cache-Control") != "no-store" {
				t.Fatalf("%s: %d %v %s", client, a.status, a.header, a.body)
			}
			body := a.body
			if client == "encrypted" {
				inner, header, err := jose.Decrypt(body, []*jose.Decrypter{key}, []jose.Algorithm{jose.ECDHES})
				if err != nil || header.Encryption != jose.A256GCM || header.ContentType != "JWT" {
					t.Fatalf("%v, header %v", err, header)
				}
				body = string(inner)
			}
			want := jose.Expected{Algorithms: []jose.Algorithm{alg}, Types: []string{oauth.TypIntrospection}}
			payload, _, err := jose.Verify(body, s.publicKeys(), want)
			if alg == jose.HS256 {
				payload, _, err = jose.VerifySecret(body, []byte(testSecret), want)
			}
			if err != nil {
				t.Fatalf("%s: %v", client, err)
			}
			var members map[string]json.RawMessage
			claims, err := jose.ParseClaims(payload, &members)
			if err != nil {
				t.Fatal(err)
			}
			if claims.Issuer != scriptIssuer || !slices.Equal(claims.Audience, []string{client}) || time.Since(claims.IssuedAt).Abs() > time.Minute || len(members) != 4 {
				t.Errorf("%s: the claims are %s", client, payload)
			}
			plain := s.introspectAccepting(client, token, "application/json")
			var indented, compact any
			if json.Unmarshal([]byte(plain.body), &indented) != nil || json.Unmarshal(members["token_introspection"], &compact) != nil {
				t.Fatalf("%s, %s", plain.body, payload)
			}
			if plain.Active != active || !sameJSON(indented, compact) {
				t.Errorf("%s: JSON %s, JWT %s", client, plain.body, payload)
			}
		}
	}
}

func sameJSON(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}

func TestAcceptSelectsTheFormatOfIntrospection(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("api", func(c *record.Client) { c.IntrospectionSignedResponseAlg = "ES256" })}})
	for _, test := range []struct {
		accept []string
		jwt    bool
	}{
		{nil, false},
		{[]string{""}, false},
		{[]string{"*/*"}, false},
		{[]string{"application/*"}, false},
		{[]string{"application/jwt"}, false},
		{[]string{"application/token-introspection+jwtx"}, false},
		{[]string{"application/token-introspection+jwt;q=0"}, false},
		{[]string{"application/token-introspection+jwt; q=0.000"}, false},
		{[]string{introspectionJWT}, true},
		{[]string{"APPLICATION/Token-Introspection+JWT"}, true},
		{[]string{"application/json, application/token-introspection+jwt;q=0.5"}, true},
		{[]string{"application/json", introspectionJWT}, true},
	} {
		a := s.introspectAccepting("api", "unknown", test.accept...)
		if got := a.header.Get("Content-Type") == introspectionJWT; a.status != http.StatusOK || got != test.jwt {
			t.Errorf("Accept %q: %d %s", test.accept, a.status, a.header.Get("Content-Type"))
		}
	}
}

func TestClientsRegisterForIntrospectionJWTs(t *testing.T) {
	s := newScene(t, scriptSetup{Registration: authserver.RegistrationPolicy{Mode: authserver.RegistrationOpen}})
	const start = `{"redirect_uris": ["https://c.example/cb"], `
	a := s.postJSON("/register", start+`"introspection_signed_response_alg": "PS256", "introspection_encrypted_response_alg": "dir"}`)
	var registered map[string]any
	if err := json.Unmarshal([]byte(a.body), &registered); err != nil || a.status != http.StatusCreated {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for name, want := range map[string]string{
		"introspection_signed_response_alg": "PS256", "introspection_encrypted_response_alg": "dir",
		"introspection_encrypted_response_enc": "A128CBC-HS256",
	} {
		if registered[name] != want {
			t.Errorf("%s is %v, want %v", name, registered[name], want)
		}
	}
	if a := s.postJSON("/register", start+`"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://c.example/jwks", "introspection_signed_response_alg": "HS256"}`); a.status != http.StatusCreated || !strings.Contains(a.body, `"client_secret":`) {
		t.Errorf("a client with HS256 gets no secret: %d %s", a.status, a.body)
	}
	for _, bad := range []string{
		`"introspection_signed_response_alg": "none"`, `"introspection_signed_response_alg": "x"`,
		`"introspection_encrypted_response_enc": "A256GCM"`, `"introspection_encrypted_response_alg": "ECDH-ES"`,
	} {
		if a := s.postJSON("/register", start+bad+"}"); a.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", bad, a.status, a.body)
		}
	}
	m := s.metadata()
	if !slices.Contains(m.IntrospectionSigningAlgValuesSupported, "RS256") || !slices.Contains(m.IntrospectionEncryptionAlgValuesSupported, "ECDH-ES") ||
		!slices.Contains(m.IntrospectionEncryptionEncValuesSupported, "A256GCM") {
		t.Errorf("the metadata has %q, %q, %q", m.IntrospectionSigningAlgValuesSupported, m.IntrospectionEncryptionAlgValuesSupported, m.IntrospectionEncryptionEncValuesSupported)
	}
}

package authserver_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/record"
)

// Tokens may be in a query if the JWT is encrypted (JARM, section 2.3.1), and a client gets each
// response encrypted with the registered algorithms, errors too.
func TestEncryptedResponseJWTs(t *testing.T) {
	key, keys := encryptionKey(t)
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("hybrid", func(c *record.Client) {
		c.GrantTypes, c.ResponseTypes, c.JWKS = []string{"authorization_code", "implicit"}, []string{"code", "code id_token"}, keys
		c.AuthorizationSignedResponseAlg = "PS256"
		c.AuthorizationEncryptedResponseAlg, c.AuthorizationEncryptedResponseEnc = "ECDH-ES", "A256GCM"
	})}})
	for _, test := range []struct {
		change []string
		want   []string
	}{
		{[]string{"response_type", "code id_token", "response_mode", "query.jwt", "scope", "openid", "nonce", "n"}, []string{"code", "id_token"}},
		{[]string{"response_mode", "jwt", "scope", "openid"}, []string{"code"}},
		{[]string{"response_mode", "query.jwt", "scope", "openid", "max_age", "x"}, []string{"error", "error_description"}},
	} {
		location, err := s.authorize("ada", query("hybrid", test.change...)).Location()
		if err != nil {
			t.Fatal(err)
		}
		parameters, err := url.ParseQuery(location.RawQuery)
		if err != nil || len(parameters) != 1 || location.Fragment != "" {
			t.Fatalf("%q: the response is %s", test.change, location)
		}
		signed, header, err := jose.Decrypt(parameters.Get("response"), []*jose.Decrypter{key}, []jose.Algorithm{jose.ECDHES})
		if err != nil || header.Encryption != jose.A256GCM || header.ContentType != "JWT" {
			t.Fatalf("%q: %v, header %v", test.change, err, header)
		}
		payload, _, err := jose.Verify(string(signed), s.publicKeys(), jose.Expected{Algorithms: []jose.Algorithm{jose.PS256}, Types: []string{"JWT"}})
		if err != nil {
			t.Fatal(err)
		}
		var members map[string]any
		claims, err := jose.ParseClaims(payload, &members)
		if err != nil {
			t.Fatal(err)
		}
		lifetime := time.Until(claims.Expires)
		if claims.Issuer != scriptIssuer || len(claims.Audience) != 1 || claims.Audience[0] != "hybrid" || lifetime <= 0 || lifetime > 10*time.Minute || members["state"] != "xyz" {
			t.Errorf("%q: the claims are %s", test.change, payload)
		}
		for _, name := range test.want {
			if members[name] == nil {
				t.Errorf("%q: %s is missing in %s", test.change, name, payload)
			}
		}
	}
}

// A response is not accepted as an ID token of the user.
func TestJW21_AResponseJWTIsNotAnIDTokenHint(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
	location, err := s.authorize("ada", query("app", "response_mode", "jwt", "scope", "openid")).Location()
	if err != nil {
		t.Fatal(err)
	}
	hint := location.Query().Get("response")
	if again := s.authorize("ada", query("app", "id_token_hint", hint)).Header.Get("Location"); hint == "" || !strings.Contains(again, "error=invalid_request") {
		t.Errorf("with the response %q as a hint: %s", hint, again)
	}
}

func TestClientsRegisterForPushedRequestsAndResponseJWTs(t *testing.T) {
	s := newScene(t, scriptSetup{Registration: authserver.RegistrationPolicy{Mode: authserver.RegistrationOpen}})
	const metadata = `{"redirect_uris": ["https://c.example/cb"], "require_pushed_authorization_requests": true, "authorization_signed_response_alg": "PS256",
		"authorization_encrypted_response_alg": "dir"`
	a := s.postJSON("/register", metadata+"}")
	var registered map[string]any
	if err := json.Unmarshal([]byte(a.body), &registered); err != nil || a.status != http.StatusCreated {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for name, want := range map[string]any{
		"require_pushed_authorization_requests": true, "authorization_signed_response_alg": "PS256",
		"authorization_encrypted_response_alg": "dir", "authorization_encrypted_response_enc": "A128CBC-HS256",
	} {
		if registered[name] != want {
			t.Errorf("%s is %v, want %v", name, registered[name], want)
		}
	}
	id, _ := registered["client_id"].(string)
	location := s.authorize("ada", url.Values{"client_id": {id}, "response_type": {"code"}, "redirect_uri": {"https://c.example/cb"}}.Encode())
	if location.StatusCode != http.StatusBadRequest { // errors of clients that registered themselves are pages
		t.Errorf("a plain request gets %d", location.StatusCode)
	}
	for _, bad := range []string{`"authorization_signed_response_alg": "none"`, `"authorization_signed_response_alg": "x"`, `"authorization_encrypted_response_enc": "A256GCM"`, `"authorization_encrypted_response_alg": "ECDH-ES"`} {
		if a := s.postJSON("/register", `{"redirect_uris": ["https://c.example/cb"], `+bad+"}"); a.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", bad, a.status, a.body)
		}
	}
}

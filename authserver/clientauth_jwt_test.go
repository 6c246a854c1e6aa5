package authserver_test

import (
	"crypto/rand"
	"maps"
	"net/http"
	"testing"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/record"
)

// asserting returns a client that signs assertions with the key of the test.
func asserting(id string, change ...func(*record.Client)) testClient {
	c := confidential(id, append([]func(*record.Client){func(c *record.Client) {
		c.TokenEndpointAuthMethod, c.JWKS = oauth.AuthMethodPrivateKeyJWT, []byte(`"$key"`)
	}}, change...)...)
	c.Secret = ""
	return c
}

// assertion returns an assertion. changes replace its claims or, if nil, remove them.
func (s *scene) assertion(client, typ string, changes map[string]any) string {
	s.t.Helper()
	claims := map[string]any{"iss": client, "sub": client, "aud": scriptIssuer, "jti": rand.Text(), "iat": "0s", "exp": "60s"}
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	token, err := s.sign(jose.ES256, typ, "", claims)
	if err != nil {
		s.t.Fatal(err)
	}
	return token
}

// present authenticates with an assertion at an endpoint, and reports whether it is accepted.
func (s *scene) present(path, assertion string) bool {
	s.t.Helper()
	form := []string{"client_assertion_type", oauth.ClientAssertionTypeJWTBearer, "client_assertion", assertion}
	if path == "/par" {
		form = append(form, "response_type", "code", "redirect_uri", testCallback, "code_challenge", oauth.S256Challenge(testVerifier), "code_challenge_method", "S256")
	} else {
		form = append(form, "grant_type", "client_credentials")
	}
	switch a := s.post(path, "", form...); {
	case a.status == http.StatusOK || a.status == http.StatusCreated:
		return true
	case a.status != http.StatusUnauthorized || a.Error != string(oauth.InvalidClient):
		s.t.Errorf("%s: %d %s", path, a.status, a.body)
	}
	return false
}

func TestCA06_AudiencesOfAssertions(t *testing.T) {
	s := withMutualTLS(t, authserver.MutualTLS{Host: "mtls.example.com"},
		asserting("client"), asserting("older", func(c *record.Client) { c.InsecureAssertionAudience = true }))
	const (
		token, par             = scriptIssuer + "/token", scriptIssuer + "/par"
		tokenAlias, otherAlias = "https://mtls.example.com/token", "https://other.example.com/token"
	)
	for _, test := range []struct {
		name          string
		audience      any
		client, older bool // accepted for each of the clients
	}{
		{"the token endpoint for certificates", tokenAlias, false, true},
		{"another server's token endpoint for certificates", otherAlias, false, false},
		{"the issuer", scriptIssuer, true, true},
		{"an array with the issuer", []string{scriptIssuer}, true, true},
		{"the token endpoint", token, false, true},
		{"the issuer and the token endpoint", []string{scriptIssuer, token}, false, true},
		{"the issuer and another server", []string{scriptIssuer, "https://other.example.com"}, false, true},
		{"the issuer twice", []string{scriptIssuer, scriptIssuer}, false, true},
		{"the issuer and the PAR endpoint", []string{scriptIssuer, par}, false, true},
		{"the issuer, the token and the PAR endpoint", []string{scriptIssuer, token, par}, false, true},
		{"the issuer with a slash", scriptIssuer + "/", false, false},
		{"another server", "https://other.example.com", false, false},
		{"none", nil, false, false},
	} {
		for _, path := range []string{"/token", "/par"} {
			for client, want := range map[string]bool{"client": test.client, "older": test.older} {
				if got := s.present(path, s.assertion(client, "JWT", map[string]any{"aud": test.audience})); got != want {
					t.Errorf("%s: %s at %s: accepted %v", test.name, client, path, got)
				}
			}
			// With the typ of RFC 10070, the setting changes nothing.
			if got := s.present(path, s.assertion("older", oauth.TypClientAuthentication, map[string]any{"aud": test.audience})); got != test.client {
				t.Errorf("%s: with the typ at %s: accepted %v", test.name, path, got)
			}
		}
	}
}

// RFC 9126, section 2 required that the URL of the endpoint for pushed requests is accepted there.
func TestCA06_PAREndpointAsAudience(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{asserting("client"), asserting("older", func(c *record.Client) { c.InsecureAssertionAudience = true })}})
	for _, audience := range []any{scriptIssuer + "/par", []string{scriptIssuer + "/par"}} {
		for _, test := range []struct {
			path, client string
			accepted     bool
		}{{"/par", "older", true}, {"/token", "older", false}, {"/par", "client", false}, {"/token", "client", false}} {
			if got := s.present(test.path, s.assertion(test.client, "JWT", map[string]any{"aud": audience})); got != test.accepted {
				t.Errorf("%v: %s at %s: accepted %v", audience, test.client, test.path, got)
			}
		}
	}
}

func TestCA08_TimesOfAssertions(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{asserting("client")}})
	for _, test := range []struct {
		name     string
		changes  map[string]any
		accepted bool
	}{
		{"nbf 8 s ahead", map[string]any{"nbf": "8s"}, true},
		{"nbf 70 s ahead", map[string]any{"nbf": "70s", "exp": "140s"}, false},
		{"iat 8 s ahead", map[string]any{"iat": "8s"}, true},
		{"iat 70 s ahead", map[string]any{"iat": "70s", "exp": "140s"}, false},
		{"an hour", map[string]any{"exp": "60m"}, true},
		{"61 minutes", map[string]any{"exp": "61m"}, false},
		{"61 minutes, without iat", map[string]any{"exp": "61m", "iat": nil}, false},
		{"61 minutes in total", map[string]any{"iat": "-31m", "exp": "30m"}, false},
		{"an hour in total", map[string]any{"iat": "-30m", "exp": "30m"}, true},
		{"expired 5 s ago", map[string]any{"iat": "-60s", "exp": "-5s"}, true},
		{"expired a minute ago", map[string]any{"iat": "-120s", "exp": "-60s"}, false},
		{"no exp", map[string]any{"exp": nil}, false},
		{"no jti", map[string]any{"jti": nil}, false},
		{"no iat", map[string]any{"iat": nil}, true},
	} {
		for _, path := range []string{"/token", "/par"} {
			if got := s.present(path, s.assertion("client", oauth.TypClientAuthentication, test.changes)); got != test.accepted {
				t.Errorf("%s at %s: accepted %v", test.name, path, got)
			}
		}
	}
}

// JW-21: with require_assertion_typ, no other JWT of the client passes for an assertion.
func TestJW21_TypesOfAssertions(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{asserting("client"), asserting("typed", func(c *record.Client) { c.RequireAssertionTyp = true })}})
	for typ, want := range map[string][2]bool{ // client, typed
		oauth.TypClientAuthentication: {true, true}, "application/client-authentication+jwt": {true, true},
		"JWT": {true, false}, "": {true, false},
		oauth.TypRequestObject: {}, oauth.TypAccessToken: {}, "dpop+jwt": {},
	} {
		for i, client := range []string{"client", "typed"} {
			if got := s.present("/token", s.assertion(client, typ, nil)); got != want[i] {
				t.Errorf("typ %q of %s: accepted %v", typ, client, got)
			}
		}
	}
}

// CA-10: an algorithm that the client is not registered for is refused. FAPI excludes RS256.
func TestCA10_AlgorithmsOfAssertions(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{asserting("ES256", func(c *record.Client) { c.TokenEndpointAuthSigningAlg = "ES256" }),
		asserting("PS256", func(c *record.Client) { c.TokenEndpointAuthSigningAlg = "PS256" })}})
	if !s.present("/token", s.assertion("ES256", oauth.TypClientAuthentication, nil)) {
		t.Error("the registered algorithm is refused")
	}
	if s.present("/token", s.assertion("PS256", oauth.TypClientAuthentication, nil)) {
		t.Error("another algorithm is accepted")
	}
}

package authserver_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// The browser is only redirected to a registered URI or to a page of this server.
func FuzzAuthorize(f *testing.F) {
	s := newScene(f, scriptSetup{Clients: []testClient{confidential("app"), confidential("native", func(c *record.Client) {
		c.TokenEndpointAuthMethod, c.ApplicationType = oauth.AuthMethodNone, oauth.ApplicationNative
		c.RedirectURIs = []string{"http://127.0.0.1/cb", "com.example.app:/cb"}
	})}})
	for _, seed := range []string{
		query("app"), query("native", "redirect_uri", "http://127.0.0.1:1234/cb"), query("app", "redirect_uri", "https://evil.test/cb"),
		query("app", "prompt", "none", "response_mode", "form_post", "claims", `{"id_token":{"sub":{"value":"ada"}}}`),
		query("app", "scope", "openid", "max_age", "0", "id_token_hint", "a.b.c", "resource", "x"), query("app") + "&state=2&redirect_uri=https%3A%2F%2Fevil.test",
		query("native", "redirect_uri", "http://127.0.0.1:1234@evil.test/cb"), query("native", "redirect_uri", "com.example.app:/cb", "response_mode", "fragment"),
	} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	allowed := []string{"/sign-in?interaction=", "/consent?interaction=", testCallback + "?", testCallback + "#", "com.example.app:/cb?", "com.example.app:/cb#"}
	f.Fuzz(func(t *testing.T, rawQuery string, signedIn bool) {
		r := httptest.NewRequest(http.MethodGet, "/authorize", nil)
		r.URL.RawQuery = rawQuery
		if signedIn {
			s.sessions["fuzz"] = &authserver.Authentication{Subject: "ada", Session: "fuzz"}
			r.AddCookie(&http.Cookie{Name: sessionCookie, Value: "fuzz"})
		}
		w := httptest.NewRecorder()
		s.server.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Fatalf("%q: %d %s", rawQuery, w.Code, w.Body)
		}
		location := w.Header().Get("Location")
		if location == "" {
			return
		}
		for _, prefix := range allowed {
			if strings.HasPrefix(location, prefix) {
				return
			}
		}
		if u, err := url.Parse(location); err == nil && u.Scheme == "http" && u.Hostname() == "127.0.0.1" && u.User == nil && u.Path == "/cb" {
			return
		}
		t.Errorf("%q redirects to %q", rawQuery, location)
	})
}

// Only ID tokens of this server are accepted as a hint.
func FuzzIDTokenHint(f *testing.F) {
	s := newScene(f, scriptSetup{Clients: []testClient{confidential("app")}})
	good := s.tokens("ada", "app", "openid")
	for _, seed := range []string{good.IDToken, good.AccessToken, good.IDToken + "=", "a.b.c", "eyJhbGciOiJub25lIn0.e30."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, hint string) {
		s.t = t
		if hint == "" || hint == good.IDToken {
			return
		}
		location, err := s.authorize("ada", query("app", "scope", "openid", "id_token_hint", hint)).Location()
		if err == nil && location.Query().Get("code") != "" {
			t.Errorf("%q is accepted as an ID token", hint)
		}
	})
}

// Only an assertion that the client signed authenticates it.
func FuzzClientAssertion(f *testing.F) {
	s := newScene(f, scriptSetup{Clients: []testClient{confidential("app", func(c *record.Client) {
		c.TokenEndpointAuthMethod, c.JWKS = oauth.AuthMethodPrivateKeyJWT, []byte(`"$key"`)
	})}})
	used, err := s.sign("ES256", oauth.TypClientAuthentication, "", map[string]any{"iss": "app", "sub": "app", "aud": scriptIssuer, "jti": "1", "exp": "300s"})
	if err != nil {
		f.Fatal(err)
	}
	send := func(assertion string) apiResponse {
		return s.post("/token", "", "grant_type", "client_credentials", "client_assertion_type", oauth.ClientAssertionTypeJWTBearer, "client_assertion", assertion)
	}
	if a := send(used); a.status != http.StatusOK {
		f.Fatalf("%d %s", a.status, a.body)
	}
	for _, seed := range []string{used, used + "=", used[1:], "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "..", strings.Repeat(".", 1000)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, assertion string) {
		s.t = t
		if a := send(assertion); a.status < 400 || a.status >= 500 {
			t.Errorf("%q: %d %s", assertion, a.status, a.body)
		}
	})
}

// Only a request object that the client signed changes the request, and nothing but the request.
func FuzzRequestObject(f *testing.F) {
	s := newScene(f, scriptSetup{Clients: []testClient{confidential("app", func(c *record.Client) {
		c.JWKS, c.RequestObjectSigningAlg = []byte(`"$key"`), "ES256"
	})}})
	good, err := s.sign("ES256", oauth.TypRequestObject, "", map[string]any{"iss": "app", "aud": scriptIssuer, "state": "inside"})
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{good, good + "=", good[1:], "a.b.c", "a.b.c.d.e", "eyJhbGciOiJub25lIn0.e30.", "..", "....", strings.Repeat(".", 1000)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, object string) {
		s.t = t
		if object == "" || object == good {
			return
		}
		location := s.authorize("ada", query("app", "scope", "openid", "request", object)).Header.Get("Location")
		if strings.Contains(location, "code=") || strings.Contains(location, "state=inside") {
			t.Errorf("%q is accepted as a request object: %s", object, location)
		}
		if _, a := s.push("app", "request", object); a.status < 400 || a.status >= 500 {
			t.Errorf("%q is pushed: %d %s", object, a.status, a.body)
		}
	})
}

// A request is pushed as it was sent, or refused.
func FuzzPushedRequest(f *testing.F) {
	s := newScene(f, scriptSetup{Clients: []testClient{confidential("app")}})
	for _, seed := range []string{query("app"), query("app", "redirect_uri", "https://evil.test/cb"), query("app", "response_mode", "form_post.jwt"), "client_id=app", "request_uri=" + oauth.RequestURIPrefix, query("app") + "&state=2", "%", ";"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		s.t = t
		r := httptest.NewRequest(http.MethodPost, "/par", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.SetBasicAuth("app", testSecret)
		a := s.do(r)
		if a.status == http.StatusCreated {
			location := s.authorize("ada", pushedQuery("app", a.RequestURI)).Header.Get("Location")
			if !strings.HasPrefix(location, testCallback) && !strings.HasPrefix(location, "/") && location != "" {
				t.Errorf("%q redirects to %q", body, location)
			}
		} else if a.status >= 500 {
			t.Errorf("%q: %d %s", body, a.status, a.body)
		}
	})
}

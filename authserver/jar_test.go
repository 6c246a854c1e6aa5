package authserver_test

import (
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/memory"
)

// A request object is fetched from a registered request_uri. The fragment is the version of the
// object (OpenID Connect Core, section 6.2).
func TestJA03_RequestURI(t *testing.T) {
	objects := map[string]string{}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		object, ok := objects[r.URL.Path]
		switch {
		case r.URL.Path == "/redirect":
			http.Redirect(w, r, "/good", http.StatusFound)
		case !ok:
			http.NotFound(w, r)
		default:
			_, _ = w.Write([]byte(object))
		}
	}))
	defer server.Close()
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	app := confidential("app")
	app.Scope = "openid"
	for _, path := range []string{"/good", "/redirect", "/absent", "/huge", "/html"} {
		app.RequestURIs = append(app.RequestURIs, server.URL+path)
	}
	app.JWKS = []byte(`"$key"`)
	s := newSceneOn(t, scriptSetup{Clients: []testClient{app}}, memory.New(), func(c *authserver.Config) {
		c.Outgoing = authserver.Outgoing{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, CertificateAuthorities: pool}
	})
	object, err := s.sign(jose.ES256, "oauth-authz-req+jwt", "", map[string]any{
		"iss": "app", "aud": scriptIssuer, "exp": time.Now().Add(time.Minute).Unix(), "state": "inside",
	})
	if err != nil {
		t.Fatal(err)
	}
	objects["/good"], objects["/huge"], objects["/html"] = object+"\n", strings.Repeat("x", 20<<10), "<html>"
	who := s.signIn(httptest.NewRecorder(), "ada")
	for uri, want := range map[string]string{
		"/good":           "state=inside",
		"/good#version-2": "state=inside",
		"/good?x=y":       "error=invalid_request_uri",
		"/redirect":       "error=invalid_request_uri",
		"/absent":         "error=invalid_request_uri",
		"/huge":           "error=invalid_request_uri",
		"/html":           "error=invalid_request_object",
	} {
		query := url.Values{
			"client_id": {"app"}, "response_type": {"code"}, "scope": {"openid"}, "nonce": {"n"}, "redirect_uri": {app.RedirectURIs[0]},
			"request_uri": {server.URL + uri},
		}
		r := httptest.NewRequest(http.MethodGet, scriptIssuer+"/authorize?"+query.Encode(), nil)
		r.AddCookie(&http.Cookie{Name: sessionCookie, Value: who.Session})
		w := httptest.NewRecorder()
		s.server.ServeHTTP(w, r)
		if location := w.Header().Get("Location"); !strings.Contains(location, want) {
			t.Errorf("%s: status %d, Location %s, want %s", uri, w.Code, location, want)
		}
	}
}

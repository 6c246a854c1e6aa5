package authserver_test

import (
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
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

// Each request object of a client whose requests must be signed gets one response, regardless of the sender.
func TestJA06_RequestObjectsGetOneResponse(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		app := confidential("app", func(c *record.Client) {
			c.JWKS, c.RequireSignedRequestObject, c.RequestObjectSigningAlg = []byte(`"$key"`), true, "ES256"
		})
		s := newSceneOn(t, scriptSetup{Clients: []testClient{app}}, store, nil)
		sign := func(jti string) string {
			object, err := s.sign(jose.ES256, oauth.TypRequestObject, "", map[string]any{
				"iss": "app", "aud": scriptIssuer, "exp": time.Now().Add(time.Minute).Unix(), "jti": jti,
				"response_type": "code", "scope": "openid", "nonce": "n", "redirect_uri": testCallback, "state": jti,
			})
			if err != nil {
				t.Fatal(err)
			}
			return url.Values{"client_id": {"app"}, "redirect_uri": {testCallback}, "request": {object}}.Encode()
		}
		who := s.signIn(httptest.NewRecorder(), "ada")
		var codes atomic.Int64
		once := sign("once")
		race(10, func(int) {
			r := httptest.NewRequest(http.MethodGet, scriptIssuer+"/authorize?"+once, nil)
			r.AddCookie(&http.Cookie{Name: sessionCookie, Value: who.Session})
			w := httptest.NewRecorder()
			s.server.ServeHTTP(w, r)
			if strings.Contains(w.Header().Get("Location"), "code=") {
				codes.Add(1)
			} else if w.Code >= 500 {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
		if codes.Load() != 1 {
			t.Errorf("one request object got %d codes", codes.Load())
		}
		if location := s.authorizeIn(who.Session, once).Header.Get("Location"); !strings.Contains(location, "error=invalid_request_object") {
			t.Errorf("replayed, it is redirected to %s", location)
		}
		// Before the user has finished, the browser can send it again.
		b := &tabs{s, map[string]*http.Cookie{}}
		again := sign("again")
		b.begin(http.MethodGet, "/authorize?"+again, s.server.ServeHTTP)
		interaction := b.begin(http.MethodGet, "/authorize?"+again, s.server.ServeHTTP)
		b.signIn()
		if location := b.resume(interaction); !strings.Contains(location, "code=") {
			t.Errorf("after a reload, the browser is redirected to %s", location)
		}
		if location := b.do(http.MethodGet, "/authorize?"+again, s.server.ServeHTTP); !strings.Contains(location, "error=invalid_request_object") {
			t.Errorf("after the response, the browser is redirected to %s", location)
		}
	})
}

// The algorithm is that of the signed JWT, also inside an encrypted one.
func TestJA01_TheAlgorithmInsideAnEncryptedRequestObjectIsEnforced(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{
		confidential("es", func(c *record.Client) {
			c.JWKS, c.RequestObjectSigningAlg, c.RequestObjectEncryptionAlg = []byte(`"$key"`), "ES256", "ECDH-ES"
		}),
		confidential("ps", func(c *record.Client) {
			c.JWKS, c.RequestObjectSigningAlg, c.RequestObjectEncryptionAlg = []byte(`"$key"`), "PS256", "ECDH-ES"
		}),
	}})
	s.prepareKeys()
	for _, client := range []string{"es", "ps"} {
		claims := map[string]any{"iss": client, "aud": scriptIssuer, "exp": time.Now().Add(time.Minute).Unix(), "state": "inside"}
		signed, err := s.sign(jose.ES256, oauth.TypRequestObject, "", claims)
		if err != nil {
			t.Fatal(err)
		}
		byHMAC, err := s.sign(jose.HS256, oauth.TypRequestObject, testSecret, claims)
		if err != nil {
			t.Fatal(err)
		}
		payload, err := jose.UnverifiedPayload(signed)
		if err != nil {
			t.Fatal(err)
		}
		unsigned, err := jose.Unsigned("", payload)
		if err != nil {
			t.Fatal(err)
		}
		for inner, want := range map[string]bool{signed: client == "es", byHMAC: false, unsigned: false, signed[:len(signed)-6] + "AAAAAA": false} {
			object, err := s.encrypt(inner, jose.ECDHES, jose.A256GCM)
			if err != nil {
				t.Fatal(err)
			}
			location := s.authorize("ada", query(client, "scope", "openid", "request", object)).Header.Get("Location")
			if strings.Contains(location, "state=inside") != want || !want && !strings.Contains(location, "error=invalid_request_object") {
				t.Errorf("%s: %.20s… ends at %s", client, inner, location)
			}
		}
	}
}

func TestJA01_TheServerRequiresSignedRequestsOfEveryClient(t *testing.T) {
	s := newScene(t, scriptSetup{RequireSigned: true, Clients: []testClient{confidential("app", func(c *record.Client) { c.JWKS = []byte(`"$key"`) })}})
	if location := s.authorize("ada", query("app", "scope", "openid")).Header.Get("Location"); !strings.Contains(location, "error=invalid_request") {
		t.Errorf("a plain request is redirected to %s", location)
	}
	if _, a := s.push("app", "scope", "openid"); a.status != http.StatusBadRequest || a.Error != string(oauth.InvalidRequest) {
		t.Errorf("a plain request is pushed: %d %s", a.status, a.body)
	}
	object, err := s.sign(jose.ES256, oauth.TypRequestObject, "", map[string]any{
		"iss": "app", "aud": scriptIssuer, "exp": time.Now().Add(time.Minute).Unix(), "response_type": "code", "scope": "openid", "nonce": "n", "redirect_uri": testCallback,
	})
	if err != nil {
		t.Fatal(err)
	}
	if location := s.authorize("ada", query("app", "scope", "openid", "request", object)).Header.Get("Location"); !strings.Contains(location, "code=") {
		t.Errorf("a signed request is redirected to %s", location)
	}
	if !s.metadata().RequireSignedRequestObject {
		t.Error("the metadata does not say so")
	}
}

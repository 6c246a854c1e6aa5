package authserver_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

const webhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// policy is a webhook over TLS that records its requests.
type policy struct {
	*httptest.Server
	mu       sync.Mutex
	handler  http.HandlerFunc
	received []string // request bodies
}

func newPolicy(t *testing.T) *policy {
	p := &policy{}
	p.respond(`{}`)
	p.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		p.check(t, r, body)
		p.mu.Lock()
		p.received = append(p.received, string(body))
		handler := p.handler
		p.mu.Unlock()
		handler(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

// check verifies a message in the same way as the Standard Webhooks libraries.
func (p *policy) check(t *testing.T, r *http.Request, body []byte) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(webhookSecret, "whsec_"))
	if err != nil {
		t.Error(err)
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", r.Header.Get("Webhook-Id"), r.Header.Get("Webhook-Timestamp"), body)
	if r.Header.Get("Webhook-Signature") != "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)) || r.Header.Get("Webhook-Id") == "" {
		t.Errorf("the message is not signed: %v", r.Header)
	}
	if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Authorization") != "" {
		t.Errorf("%s %v", r.Method, r.Header)
	}
}

func (p *policy) handle(handler http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handler, p.received = handler, nil
}

func (p *policy) respond(body string) {
	p.handle(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, body)
	})
}

// requests returns the bodies of the requests since the handler was set.
func (p *policy) requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.received
}

func (p *policy) outgoing() authserver.Outgoing {
	authorities := x509.NewCertPool()
	authorities.AddCert(p.Certificate())
	return authserver.Outgoing{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, CertificateAuthorities: authorities}
}

// policyScene returns a scene with a policy as its webhook.
func policyScene(t *testing.T, change func(*authserver.Config, *authserver.Webhook)) (*scene, *policy) {
	p := newPolicy(t)
	setup := scriptSetup{
		Clients: []testClient{confidential("web"), confidential("other", func(c *record.Client) { c.Resources = []string{"https://notes.example.com"} })},
		Resources: []record.Resource{
			{Identifier: "https://notes.example.com", Scopes: []string{"notes.read"}},
			{Identifier: "https://opaque.example.com", AccessTokenFormat: record.AccessTokenOpaque, IntrospectionClients: []string{"web"}},
		},
		Scopes: []record.Scope{{Name: "notes.read"}},
		Users:  map[string]oauth.Claims{"ada": {"email": "ada@example.com"}},
	}
	for i := range setup.Clients {
		setup.Clients[i].Scope = "openid offline_access notes.read"
	}
	s := newSceneOn(t, setup, memory.New(), func(c *authserver.Config) {
		hook := authserver.Webhook{URL: p.URL, Secret: webhookSecret}
		c.Outgoing = p.outgoing()
		if change != nil {
			change(c, &hook)
		}
		c.Hooks.Webhooks = []authserver.Webhook{hook}
	})
	return s, p
}

func (s *scene) claimsOf(token string) map[string]any {
	s.t.Helper()
	_, payload, _ := strings.Cut(token, ".")
	payload, _, _ = strings.Cut(payload, ".")
	claims := map[string]any{}
	document, err := base64.RawURLEncoding.DecodeString(payload)
	if err == nil {
		err = json.Unmarshal(document, &claims)
	}
	if err != nil {
		s.t.Fatalf("%v: %s", err, token)
	}
	return claims
}

// hookCode signs ada in and returns a code for a client.
func (s *scene) hookCode(client string, changes ...string) string {
	s.t.Helper()
	to := s.authorize("ada", query(client, append([]string{"scope", "openid notes.read", "nonce", "n"}, changes...)...)).Header.Get("Location")
	u, err := url.Parse(to)
	if err != nil || u.Query().Get("code") == "" {
		s.t.Fatalf("no code: %s", to)
	}
	return u.Query().Get("code")
}

func (s *scene) tokensFor(client, code string, form ...string) apiResponse {
	return s.post("/token", client, append([]string{"grant_type", "authorization_code", "code", code, "redirect_uri", testCallback, "code_verifier", testVerifier}, form...)...)
}

func TestAWebhookAddsClaims(t *testing.T) {
	s, p := policyScene(t, func(_ *authserver.Config, w *authserver.Webhook) {
		w.Events = []string{authserver.ClaimsOfAccessToken, authserver.ClaimsOfIDToken, authserver.ClaimsOfUserinfo}
	})
	p.handle(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"claims": {"plan": "gold", "calls": %d}}`, len(p.requests()))
	})
	code := s.hookCode("web")
	a := s.tokensFor("web", code)
	if got := s.claimsOf(a.AccessToken); got["plan"] != "gold" || got["calls"] != 1.0 || got["sub"] != "ada" {
		t.Errorf("the access token has %v", got)
	}
	if got := s.claimsOf(a.IDToken); got["plan"] != "gold" || got["calls"] != 2.0 || got["nonce"] != "n" {
		t.Errorf("the ID token has %v", got)
	}
	if got := s.userinfo(a.AccessToken); !strings.Contains(got.body, `"calls":3`) || got.Sub != "ada" {
		t.Errorf("UserInfo responds %s", got.body)
	}
	if got := s.post("/introspect", "web", "token", a.AccessToken); !strings.Contains(got.body, `"plan":"gold"`) {
		t.Errorf("introspection responds %s", got.body)
	}
	a = s.post("/token", "web", "grant_type", "refresh_token", "refresh_token", a.RefreshToken)
	if got := s.claimsOf(a.AccessToken); got["calls"] != 4.0 {
		t.Errorf("a refreshed token has %v", got)
	}
	a = s.tokensFor("web", s.hookCode("web", "resource", "https://opaque.example.com"))
	if got := s.post("/introspect", "web", "token", a.AccessToken); !strings.Contains(got.body, `"calls":6`) {
		t.Errorf("an opaque token has %s", got.body)
	}
	all := strings.Join(p.requests(), "\n")
	for _, secret := range []string{code, a.AccessToken, a.RefreshToken, testSecret, testVerifier, "ada@example.com"} {
		if strings.Contains(all, secret) {
			t.Errorf("the hook request contains %s", secret)
		}
	}
}

func TestWebhookRequestContents(t *testing.T) {
	s, p := policyScene(t, nil)
	if a := s.tokensFor("web", s.hookCode("web"), "resource", "https://notes.example.com"); a.AccessToken == "" {
		t.Fatal(a.body)
	}
	if len(p.requests()) != 1 {
		t.Fatalf("the hook got %q", p.requests())
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(p.requests()[0]), &got); err != nil {
		t.Fatal(err)
	}
	data, _ := got["data"].(map[string]any)
	if _, err := time.Parse(time.RFC3339Nano, fmt.Sprint(got["timestamp"])); err != nil || data["auth_time"].(float64) < 1e9 {
		t.Errorf("timestamp or auth_time: %v", got)
	}
	delete(got, "timestamp")
	delete(data, "auth_time")
	if diff := cmp.Diff(map[string]any{"type": "access_token", "data": map[string]any{
		"iss": scriptIssuer, "grant_type": "authorization_code", "client_id": "web", "sub": "ada", "scope": "openid notes.read",
		"aud": []any{"https://notes.example.com"}, "amr": []any{"pwd"},
	}}, got); diff != "" {
		t.Error(diff)
	}
}

// A refusal does not spend the code.
func TestAWebhookCanRefuse(t *testing.T) {
	s, p := policyScene(t, func(_ *authserver.Config, w *authserver.Webhook) {
		w.Events = []string{authserver.ClaimsOfAccessToken, authserver.ClaimsOfUserinfo}
	})
	code := s.hookCode("web")
	p.respond(`{"error": "access_denied", "error_description": "the account is locked"}`)
	a := s.tokensFor("web", code)
	if a.status != 400 || a.Error != "access_denied" || !strings.HasPrefix(a.Description, "the account is locked") || a.AccessToken != "" {
		t.Errorf("%d %s", a.status, a.body)
	}
	p.respond(`{}`)
	if a = s.tokensFor("web", code); a.AccessToken == "" {
		t.Fatalf("the code was spent: %s", a.body)
	}
	p.respond(`{"error": "access_denied"}`)
	if got := s.userinfo(a.AccessToken); got.status != 403 || got.Sub != "" {
		t.Errorf("UserInfo: %d %s", got.status, got.body)
	}
	if got := s.post("/token", "web", "grant_type", "refresh_token", "refresh_token", a.RefreshToken); got.Error != "access_denied" {
		t.Errorf("refresh: %d %s", got.status, got.body)
	}
}

func TestRE26_ARequestIsRefusedIfItsWebhookFails(t *testing.T) {
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer target.Close()
	release := make(chan struct{})
	var log bytes.Buffer
	s, p := policyScene(t, func(c *authserver.Config, w *authserver.Webhook) {
		w.URL += "/tokens?key=hidden"
		w.Timeout = time.Second // the good answers between the failures come in time on a busy machine, too
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	t.Cleanup(func() { close(release) }) // runs before the test server waits for its connections
	code := s.hookCode("web")
	for name, handler := range map[string]http.HandlerFunc{
		"status 500": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"status 403": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) },
		"redirect":   func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, target.URL, http.StatusFound) },
		"redirect that keeps the method": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, target.URL, http.StatusTemporaryRedirect)
		},
		"not JSON": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, "OK")
		},
		"HTML": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>{}") },
		"huge": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"claims": {"a": %q}}`, strings.Repeat("x", 64<<10))
		},
		"JW-25, protocol claims": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"claims": {"sub": "mallory", "scope": "admin"}}`)
		},
		"slow":              func(_ http.ResponseWriter, _ *http.Request) { <-release },
		"unfinished body":   func(w http.ResponseWriter, _ *http.Request) { drip(w, release) },
		"connection closed": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"truncated body": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, `{}`)
		},
	} {
		p.handle(handler)
		log.Reset()
		a := s.tokensFor("web", code)
		if a.status != 503 || a.Error != "temporarily_unavailable" || a.header.Get("Retry-After") == "" || a.AccessToken != "" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		if n := len(p.requests()); n != 1 {
			t.Errorf("%s: the hook was called %d times", name, n)
		}
		if !strings.Contains(log.String(), "hook 127.0.0.1") || strings.Contains(log.String(), "hidden") || strings.Contains(log.String(), "whsec") {
			t.Errorf("%s: the log says %s", name, log.String())
		}
		p.respond(`{}`) // keeps the breaker closed
		if a := s.post("/token", "web", "grant_type", "authorization_code", "code", s.hookCode("web"), "redirect_uri", testCallback, "code_verifier", testVerifier); a.AccessToken == "" {
			t.Fatalf("%s: after the failure: %s", name, a.body)
		}
	}
	if a := s.tokensFor("web", code); a.AccessToken == "" {
		t.Errorf("the code was spent: %s", a.body)
	}
}

// drip starts a response and does not finish it.
func drip(w http.ResponseWriter, release chan struct{}) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, `{"claims": {`)
	if err := http.NewResponseController(w).Flush(); err != nil {
		return
	}
	<-release
}

func TestRE26_AFailingWebhookIsNotCalledForAWhile(t *testing.T) {
	s, p := policyScene(t, nil)
	p.handle(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	code := s.hookCode("web")
	for range 20 {
		if a := s.tokensFor("web", code); a.Error != "temporarily_unavailable" {
			t.Fatal(a.body)
		}
	}
	if n := len(p.requests()); n != 5 {
		t.Errorf("the hook was called %d times", n)
	}
	// Requests that do not call the hook still succeed.
	if a := s.post("/token", "web", "grant_type", "client_credentials", "scope", "notes.read"); a.AccessToken == "" {
		t.Error(a.body)
	}
}

// Webhooks follow the same network policy as other outgoing requests.
func TestDC07_WebhooksAtPrivateAddressesAreNotCalled(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "localhost", "2130706433", "[::1]", "0.0.0.0"} {
		s, p := policyScene(t, func(c *authserver.Config, w *authserver.Webhook) {
			c.Outgoing.Networks = nil
			u, err := url.Parse(w.URL)
			if err != nil {
				t.Fatal(err)
			}
			w.URL = "https://" + host + ":" + u.Port()
		})
		if a := s.tokensFor("web", s.hookCode("web")); a.status != 503 || len(p.requests()) != 0 {
			t.Errorf("%s: %d %s, and the hook got %q", host, a.status, a.body, p.requests())
		}
	}
}

func TestWhenAWebhookIsCalled(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*authserver.Webhook)
		called string // for client_credentials of web, a code of web, a code of other, a code for the API
	}{
		{"everything except client_credentials", func(*authserver.Webhook) {}, "-111"},
		{"client_credentials if listed", func(w *authserver.Webhook) { w.GrantTypes = []string{"client_credentials"} }, "1---"},
		{"one client", func(w *authserver.Webhook) { w.Clients = []string{"other"} }, "--1-"},
		{"one API", func(w *authserver.Webhook) { w.Resources = []string{"https://opaque.example.com"} }, "---1"},
		{"ID tokens", func(w *authserver.Webhook) { w.Events = []string{authserver.ClaimsOfIDToken} }, "-111"},
	} {
		s, p := policyScene(t, func(_ *authserver.Config, w *authserver.Webhook) { test.change(w) })
		called := ""
		for _, request := range []func() apiResponse{
			func() apiResponse {
				return s.post("/token", "web", "grant_type", "client_credentials", "scope", "notes.read")
			},
			func() apiResponse { return s.tokensFor("web", s.hookCode("web")) },
			func() apiResponse { return s.tokensFor("other", s.hookCode("other")) },
			func() apiResponse {
				return s.tokensFor("web", s.hookCode("web", "resource", "https://opaque.example.com"))
			},
		} {
			p.respond(`{}`)
			if a := request(); a.AccessToken == "" {
				t.Fatalf("%s: %s", test.name, a.body)
			}
			called += map[int]string{0: "-", 1: "1"}[len(p.requests())]
		}
		if called != test.called {
			t.Errorf("%s: the hook is called for %s, want %s", test.name, called, test.called)
		}
	}
}

// Hooks are also called for tokens in redirects. A refusal is an error in the redirect.
func TestAWebhookCanRefuseAtTheAuthorizationEndpoint(t *testing.T) {
	s, p := policyScene(t, func(c *authserver.Config, w *authserver.Webhook) { w.GrantTypes = []string{"implicit"} })
	front := confidential("front", func(c *record.Client) {
		c.GrantTypes, c.ResponseTypes, c.Scope = []string{"implicit"}, []string{"token"}, "notes.read"
	})
	front.Secrets = []string{testSecret}
	if err := s.store.Declare(t.Context(), time.Now(), "front", memory.Declaration{Clients: []record.Client{front.Client}}); err != nil {
		t.Fatal(err)
	}
	authorize := func() string {
		return s.authorize("ada", query("front", "response_type", "token", "code_challenge", "", "code_challenge_method", "", "scope", "notes.read")).Header.Get("Location")
	}
	for response, want := range map[string]string{
		`{"claims": {"plan": "gold"}}`:                                "access_token=",
		`{"error": "invalid_grant", "error_description": "not here"}`: "error=access_denied&error_description=not+here",
		`{"error": "access_denied"}`:                                  "error=access_denied",
		`not JSON`:                                                    "error=temporarily_unavailable",
	} {
		p.respond(response)
		if to := authorize(); !strings.Contains(to, want) || len(p.requests()) != 1 {
			t.Errorf("%s: %s", response, to)
		}
	}
}

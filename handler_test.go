package valetkey

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/configuration"
)

// newTestServer returns a server in memory and what it logs at debug level.
func newTestServer(t *testing.T, change func(*Config)) (*Server, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	config := Config{
		Configuration: configuration.Configuration{Issuer: "https://login.example.com", Database: "sqlite::memory:"},
		Logger:        slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&config)
	}
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, &log
}

func get(s http.Handler, target string, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestOR04_OtherHostsAreRefused(t *testing.T) {
	s, _ := newTestServer(t, nil)
	for host, want := range map[string]int{
		"login.example.com":           200,
		"LOGIN.example.com":           200,
		"login.example.com:443":       200,
		"login.example.com:8443":      421,
		"login.example.com.evil.test": 421,
		"evil.test":                   421,
		"127.0.0.1:8080":              421,
		"login.example.com@evil.test": 421,
		"":                            421,
	} {
		for _, path := range []string{"/.well-known/openid-configuration", "/sign-in", "/jwks", "/nothing"} {
			w := get(s, path, func(r *http.Request) { r.Host = host })
			if want == 421 && w.Code != want || want == 200 && w.Code == 421 {
				t.Errorf("%s of the host %q returns %d", path, host, w.Code)
			}
		}
	}
	plain := get(s, "https://login.example.com/.well-known/openid-configuration", nil).Body.String()
	forged := get(s, "https://login.example.com/.well-known/openid-configuration", func(r *http.Request) {
		r.Header.Set("X-Forwarded-Host", "evil.test")
		r.Header.Set("X-Forwarded-Proto", "http")
		r.Header.Set("Forwarded", "host=evil.test;proto=http")
		r.Header.Set("X-Original-URL", "/account")
	}).Body.String()
	if plain == "" || plain != forged {
		t.Errorf("forwarded headers change the metadata:\n%s", forged)
	}
}

// A page that uses DNS rebinding to reach 127.0.0.1 gets nothing.
func TestOR07_OtherHostsAreRefusedOnLoopback(t *testing.T) {
	s, _ := newTestServer(t, func(c *Config) { c.Issuer = "http://127.0.0.1:8080" })
	if w := get(s, "http://evil.test:8080/", nil); w.Code != http.StatusMisdirectedRequest {
		t.Errorf("a rebound name returns %d", w.Code)
	}
	w := get(s, "http://localhost:8080/", nil)
	if w.Code != http.StatusMisdirectedRequest || !strings.Contains(w.Body.String(), "http://127.0.0.1:8080") {
		t.Errorf("another name returns %d and does not name the issuer: %s", w.Code, w.Body)
	}
}

// Only X-Forwarded-For is used, whatever else a proxy passes on, and a client cannot make the
// server drop it.
func TestHP11_HP12_HeadersThatLookLikeForwarding(t *testing.T) {
	s, log := newTestServer(t, func(c *Config) { c.TrustedProxies = []string{"10.0.0.0/8"} })
	for _, test := range []struct {
		name   string
		header http.Header
		want   string
	}{
		{"HP-11", http.Header{"X_forwarded_for": {"1.1.1.1"}, "X_Forwarded_For": {"1.1.1.1"}}, "10.0.0.1"},
		{"HP-11", http.Header{"X-Real-Ip": {"1.1.1.1"}, "X-Client-Ip": {"1.1.1.1"}, "True-Client-Ip": {"1.1.1.1"}, "Forwarded": {"for=1.1.1.1"}}, "10.0.0.1"},
		{"HP-12", http.Header{"Connection": {"close, X-Forwarded-For"}, "X-Forwarded-For": {"198.51.100.1"}}, "198.51.100.1"},
	} {
		log.Reset()
		get(s, "https://login.example.com/jwks", func(r *http.Request) {
			r.RemoteAddr, r.Header = "10.0.0.1:5", test.header
		})
		if !strings.Contains(log.String(), "from="+test.want+" ") {
			t.Errorf("%s: %v seems not to come from %s:\n%s", test.name, test.header, test.want, log)
		}
	}
}

func TestLO05_APanicIsAResponseAndALogEntry(t *testing.T) {
	s, log := newTestServer(t, nil)
	s.pages = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("secret of the handler") })
	w := get(s, "https://login.example.com/account", nil)
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("a panic returns %d %s", w.Code, w.Body)
	}
	_, ref, _ := strings.Cut(strings.TrimSpace(w.Body.String()), "reference ")
	if !strings.Contains(log.String(), "secret of the handler") || !strings.Contains(log.String(), strings.TrimSuffix(ref, ".")) {
		t.Errorf("the log does not contain the reference:\n%s", log)
	}
	s.runTask(t.Context(), "turn the mill", func(context.Context) error { panic("in the background") })
	s.runTask(t.Context(), "turn the mill", func(context.Context) error { return errors.New("no wind") })
	if !strings.Contains(log.String(), "in the background") || !strings.Contains(log.String(), "no wind") {
		t.Errorf("failures in the background are not in the log:\n%s", log)
	}
}

func TestLO03_NoQueryInTheLog(t *testing.T) {
	s, log := newTestServer(t, nil)
	for _, path := range []string{"/authorize?client_id=x&state=hidden-value", "/setup?token=hidden-value", "/callback?code=hidden-value", "/?hidden-value"} {
		get(s, "https://login.example.com"+path, func(r *http.Request) {
			r.Header.Set("Authorization", "Bearer hidden-value")
			r.Header.Set("Cookie", "__Host-session=hidden-value")
			r.Header.Set("Referer", "https://login.example.com/?code=hidden-value")
		})
	}
	if !strings.Contains(log.String(), "path=/setup") || !strings.Contains(log.String(), "status=404") {
		t.Errorf("requests are not logged at debug level:\n%s", log)
	}
	if strings.Contains(log.String(), "hidden-value") {
		t.Errorf("the log contains a query or header:\n%s", log)
	}
}

func TestRE36_HealthAndReadiness(t *testing.T) {
	s, _ := newTestServer(t, nil)
	anywhere := func(r *http.Request) { r.Host = "10.1.2.3:8080" } // a probe only knows the address
	want := func(path string, status int) {
		t.Helper()
		w := get(s, path, anywhere)
		if w.Code != status {
			t.Errorf("%s returns %d, not %d", path, w.Code, status)
		}
		if retry := w.Header().Get("Retry-After"); (retry != "") != (status == 503) {
			t.Errorf("%s, status %d: Retry-After is %q", path, status, retry)
		}
	}
	want("/healthz", 200)
	want("/readyz", 200)
	s.draining.Store(true)
	want("/healthz", 200)
	want("/readyz", 503)
	s.draining.Store(false)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	want("/healthz", 200)
	want("/readyz", 503)
}

func TestSetupURLUntilThereIsAUser(t *testing.T) {
	s, _ := newTestServer(t, nil)
	link, err := s.SetupURL(t.Context())
	if err != nil || !strings.HasPrefix(link, "https://login.example.com/setup?token=") {
		t.Fatalf("SetupURL: %q, %v", link, err)
	}
	if w := get(s, link, nil); w.Code != 200 {
		t.Errorf("the link returns %d", w.Code)
	}
	if _, err := s.Apply(context.Background(), configuration.Declarations{Users: []configuration.User{{Username: "ada", Password: "engine no. 1"}}}); err != nil {
		t.Fatal(err)
	}
	if again, err := s.SetupURL(t.Context()); err != nil || again != "" {
		t.Errorf("with a user, SetupURL is %q (%v)", again, err)
	}
}

func TestNewRefusesInvalidConfigurations(t *testing.T) {
	for _, c := range []configuration.Configuration{
		{},
		{Issuer: "http://login.example.com", Database: "sqlite::memory:"},
		{Issuer: "https://a.example", Database: "mysql://root:hunter2@db/x"},
		{Issuer: "https://a.example", Database: "sqlite::memory:", TrustedProxies: []string{"proxy"}},
		{Issuer: "https://a.example", Database: "sqlite::memory:", Declarations: configuration.Declarations{Clients: []configuration.Client{{ID: "a"}}}},
	} {
		s, err := New(Config{Configuration: c})
		if err == nil {
			t.Errorf("New accepts %+v", c)
			s.Close()
		} else if strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("the error has the password: %v", err)
		}
	}
}

func TestHD02_EveryResponseOfAnHTTPSIssuerHasStrictTransportSecurity(t *testing.T) {
	server, err := New(Config{
		Configuration: configuration.Configuration{Issuer: "https://login.example.com", Database: "sqlite::memory:"},
		Logger:        slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for _, path := range []string{"/token", "/jwks", "/authorize", "/sign-in", "/nothing-here", "/.well-known/openid-configuration"} {
		w := httptest.NewRecorder()
		server.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "https://login.example.com"+path, nil))
		if w.Header().Get("Strict-Transport-Security") == "" {
			t.Errorf("%s (%d) has no Strict-Transport-Security", path, w.Code)
		}
	}
}

func TestOR05_AnUntrustedProxyIsLoggedOnceAnHour(t *testing.T) {
	s, log := newTestServer(t, func(c *Config) { c.TrustedProxies = []string{"10.0.0.0/8"} })
	through := func(peer string) {
		get(s, "https://login.example.com/jwks", func(r *http.Request) {
			r.RemoteAddr = peer
			r.Header = http.Header{"X-Forwarded-For": {"198.51.100.1"}}
		})
	}
	warnings := func() int { return strings.Count(log.String(), "proxy.not_trusted") }
	get(s, "https://login.example.com/jwks", nil)
	through("10.0.0.1:5")
	if warnings() != 0 {
		t.Errorf("a warning without a reason:\n%s", log)
	}
	for range 100 {
		through("192.0.2.1:5")
	}
	if warnings() != 1 || !strings.Contains(log.String(), "address=192.0.2.1") {
		t.Errorf("%d warnings, want one that names 192.0.2.1:\n%s", warnings(), log)
	}
	s.warnedOfProxy.Store(time.Now().Add(-proxyWarningEvery).UnixNano())
	through("192.0.2.1:5")
	if warnings() != 2 {
		t.Errorf("%d warnings an hour later, want 2", warnings())
	}
}

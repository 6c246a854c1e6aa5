package resourceserver

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

const (
	testIssuer   = "https://login.example.com"
	testResource = "https://api.example.com/notes"
)

// provider is a small authorization server. It is an http.RoundTripper, so that tests need no
// network and can run in a synctest bubble.
type provider struct {
	mu        sync.Mutex
	issuer    string
	keys      map[string]*jose.Signer // by kid
	down      bool
	hits      map[string]int              // requests by path
	responses map[string]http.HandlerFunc // handlers that replace those of a path
	active    map[string]map[string]any   // introspection responses by token
	lastAuth  string                      // of the introspection endpoint
}

func newProvider(t testing.TB) *provider {
	t.Helper()
	p := &provider{
		issuer: testIssuer, keys: map[string]*jose.Signer{}, hits: map[string]int{},
		responses: map[string]http.HandlerFunc{}, active: map[string]map[string]any{},
	}
	p.addKey(t, "one")
	return p
}

func (p *provider) addKey(t testing.TB, kid string) {
	t.Helper()
	key, err := jose.GenerateKey(jose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.ES256, kid, key)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys[kid] = signer
}

// with changes the provider under its lock.
func (p *provider) with(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *provider) hit(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hits[path]
}

func (p *provider) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	down := p.down
	p.mu.Unlock()
	if down {
		return nil, errors.New("connection refused")
	}
	recorder := httptest.NewRecorder()
	p.ServeHTTP(recorder, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return recorder.Result(), nil
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.hits[r.URL.Path]++
	response := p.responses[r.URL.Path]
	p.mu.Unlock()
	if response != nil {
		response(w, r)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch r.URL.Path {
	case oauth.WellKnownAuthorizationServer:
		writeJSON(w, oauth.ServerMetadata{Issuer: p.issuer, JWKSURI: p.issuer + "/jwks", IntrospectionEndpoint: p.issuer + "/introspect"})
	case "/jwks":
		var set jose.KeySet
		for _, key := range p.keys {
			set.Keys = append(set.Keys, key.Public())
		}
		writeJSON(w, set)
	case "/introspect":
		p.lastAuth = r.Header.Get("Authorization")
		if claims, ok := p.active[r.PostFormValue("token")]; ok {
			writeJSON(w, claims)
			return
		}
		writeJSON(w, map[string]any{"active": false})
	default:
		http.NotFound(w, r)
	}
}

func writeJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}

// claims returns the claims of a valid token with changes; nil removes a claim.
func claims(changes map[string]any) map[string]any {
	now := time.Now().Unix()
	all := map[string]any{
		"iss": testIssuer, "aud": testResource, "sub": "alice", "client_id": "app", "jti": "1",
		"scope": "notes.read notes.write", "iat": now, "exp": now + 300,
	}
	maps.Copy(all, changes)
	maps.DeleteFunc(all, func(_ string, value any) bool { return value == nil })
	return all
}

func (p *provider) token(t testing.TB, typ string, changes map[string]any) string {
	t.Helper()
	return p.signed(t, "one", typ, claims(changes))
}

func (p *provider) signed(t testing.TB, kid, typ string, claims map[string]any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	signer := p.keys[kid]
	p.mu.Unlock()
	token, err := signer.Sign(typ, payload)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// guard returns a resource server that trusts p.
func (p *provider) guard(t testing.TB, change func(*Config)) *ResourceServer {
	t.Helper()
	config := Config{
		Issuer: p.issuer, Resource: testResource,
		HTTPClient: &http.Client{Transport: p}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	if change != nil {
		change(&config)
	}
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func introspecting(c *Config) { c.ClientID, c.ClientSecret = "api", "secret" }

// whoami responds with the subject of the token.
var whoami = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	token, ok := TokenFromContext(r.Context())
	if !ok {
		http.Error(w, "no token", http.StatusInternalServerError)
		return
	}
	_, _ = io.WriteString(w, token.Subject)
})

// call sends a request with the given Authorization headers.
func call(h http.Handler, authorization ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, testResource, nil)
	for _, value := range authorization {
		r.Header.Add("Authorization", value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// refused checks the status and returns the one challenge.
func refused(t testing.TB, w *httptest.ResponseRecorder, status int, code oauth.ErrorCode) oauth.Challenge {
	t.Helper()
	if w.Code != status {
		t.Fatalf("status %d, want %d; %s", w.Code, status, w.Header().Get("WWW-Authenticate"))
	}
	challenges := oauth.ParseChallenges(w.Header().Get("WWW-Authenticate"))
	if len(challenges) != 1 || challenges[0].Scheme != "Bearer" {
		t.Fatalf("challenges %v", challenges)
	}
	if got := challenges[0].Param("error"); got != string(code) {
		t.Fatalf("error %q, want %q; %v", got, code, challenges[0])
	}
	return challenges[0]
}

func accepted(t testing.TB, w *httptest.ResponseRecorder, subject string) {
	t.Helper()
	if w.Code != http.StatusOK || w.Body.String() != subject {
		t.Fatalf("%d %q, want 200 %q; %s", w.Code, w.Body, subject, w.Header().Get("WWW-Authenticate"))
	}
}

func unavailable(t testing.TB, w *httptest.ResponseRecorder) {
	t.Helper()
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("WWW-Authenticate") != "" {
		t.Fatalf("status %d, want 503 without a challenge; %s", w.Code, w.Header().Get("WWW-Authenticate"))
	}
}

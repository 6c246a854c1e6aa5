//go:build !race

package valetkey

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// A limit on the allocations of a request, from the handler to a SQLite database in a file. The limit
// is a few above the current number: if a change needs more, it should be worth them. Each signature
// with ES256 is 56 of them, inside crypto/ecdsa.
func TestAllocationsOfARequest(t *testing.T) {
	s := newMeasured(t, nil)
	for _, measured := range s.requests() {
		t.Run(measured.name, func(t *testing.T) {
			const runs, rounds = 100, 3
			requests := measured.prepare(runs * (rounds + 1))
			next := func() {
				s.send(requests[0])
				requests = requests[1:]
			}
			for range runs { // fill the caches
				next()
			}
			// Background work of the server is counted too, so the least of several rounds is used.
			n := math.Inf(1)
			for range rounds {
				n = min(n, testing.AllocsPerRun(runs-1, next))
			}
			t.Logf("%v allocations", n)
			if n > measured.limit {
				t.Errorf("%s: %v allocations, and the limit is %v", measured.name, n, measured.limit)
			}
		})
	}
}

// observing is the configuration in which everything is observed, as with go run ./test/load -observed.
func observing(c *Config) {
	c.Audit.Record = configuration.AuditOn
	c.Telemetry = configuration.Telemetry{MetricsListen: ":0", OTLPEndpoint: "http://127.0.0.1:1", SampleRatio: new(0.01)}
}

// A request that is observed allocates as often as one that is not, and at most 200 bytes more: for its span,
// its status and its route. That, and little work, keeps it below the limit of go run ./test/load -observed.
func TestObservationAllocatesNothing(t *testing.T) {
	off := newMeasured(t, func(c *Config) { c.Audit.Record = configuration.AuditOff })
	on := newMeasured(t, func(c *Config) {
		observing(c)
		c.Telemetry.SampleRatio = new(0.0) // a sampled request is not free
	})
	const runs, rounds = 100, 3
	for i, request := range off.requests() {
		t.Run(request.name, func(t *testing.T) {
			count, bytes := [2]float64{math.Inf(1), math.Inf(1)}, [2]float64{math.Inf(1), math.Inf(1)}
			for range rounds {
				for k, m := range []*measured{off, on} {
					n, size := m.allocations(m.requests()[i].prepare(runs))
					count[k], bytes[k] = min(count[k], n), min(bytes[k], size)
				}
			}
			t.Logf("off: %.2f allocations, %.0f bytes; on: %.2f allocations, %.0f bytes", count[0], bytes[0], count[1], bytes[1])
			if count[1] > count[0]+0.5 || bytes[1] > bytes[0]+200 {
				t.Errorf("observed, a request takes %.2f allocations and %.0f bytes; otherwise %.2f and %.0f", count[1], bytes[1], count[0], bytes[0])
			}
		})
	}
}

// allocations sends requests, and returns how many allocations one takes, and how many bytes they have.
func (m *measured) allocations(requests []*http.Request) (count, bytes float64) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, r := range requests {
		m.send(r)
	}
	runtime.ReadMemStats(&after)
	n := float64(len(requests))
	return float64(after.Mallocs-before.Mallocs) / n, float64(after.TotalAlloc-before.TotalAlloc) / n
}

func BenchmarkRequest(b *testing.B) {
	s := newMeasured(b, nil)
	for _, measured := range s.requests() {
		b.Run(measured.name, func(b *testing.B) {
			b.ReportAllocs()
			for left := b.N; left > 0; {
				b.StopTimer()
				requests := measured.prepare(min(left, 1000))
				b.StartTimer()
				for i := range requests {
					s.send(requests[i])
				}
				left -= len(requests)
			}
		})
	}
}

// measured is a server whose requests are measured.
type measured struct {
	t       testing.TB
	handler http.Handler
	cookies []*http.Cookie // of a user who has signed in and consented
	w       recycledWriter
}

// measuredRequest is a kind of request.
type measuredRequest struct {
	name    string
	limit   float64 // of allocations
	prepare func(n int) []*http.Request
}

func (m *measured) requests() []measuredRequest {
	same := func(r *http.Request) func(int) []*http.Request {
		return func(n int) []*http.Request {
			var all []*http.Request
			for range n {
				all = append(all, r)
			}
			return all
		}
	}
	each := func(create func() *http.Request) func(int) []*http.Request {
		return func(n int) []*http.Request {
			var all []*http.Request
			for range n {
				all = append(all, create())
			}
			return all
		}
	}
	return []measuredRequest{
		{"client_credentials", 82, same(m.post("/token", "grant_type", "client_credentials", "scope", "photos:read"))},
		{"authorize", 67, same(m.authorize())},
		{"code", 228, each(func() *http.Request { return m.redeem(m.code()) })},
		{"refresh", 190, each(func() *http.Request {
			return m.post("/token", "grant_type", "refresh_token", "refresh_token", m.tokens().RefreshToken)
		})},
		{"introspection", 17, same(m.post("/introspect", "token", m.tokens().AccessToken))},
		{"introspection that accepts only JSON", 17, func(n int) []*http.Request {
			r := m.post("/introspect", "token", m.tokens().AccessToken)
			r.Header.Set("Accept", "application/json")
			return same(r)(n)
		}},
		{"discovery", 4, same(httptest.NewRequest(http.MethodGet, measuredIssuer+"/.well-known/openid-configuration", nil))},
		{"JWKS", 4, same(httptest.NewRequest(http.MethodGet, measuredIssuer+"/jwks", nil))},
	}
}

const (
	measuredCallback = "https://app.example.com/callback"
	measuredVerifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
)

func newMeasured(t testing.TB, change func(*Config)) *measured {
	t.Setenv("VALETKEY_MASTER_KEY", base64.StdEncoding.EncodeToString(make([]byte, 32)))
	config := Config{
		Configuration: configuration.Configuration{
			Issuer: measuredIssuer, Database: "sqlite:" + filepath.Join(t.TempDir(), "measured.db"),
			Declarations: configuration.Declarations{
				Users:     []configuration.User{{Username: "ada", Password: endedPassword, Name: "Ada Lovelace"}},
				Scopes:    []record.Scope{{Name: "photos:read", Description: "See your photos"}},
				Resources: []record.Resource{{Identifier: "https://photos.example.com", Scopes: []string{"photos:read"}}},
				Clients: []configuration.Client{{ID: "app", Secret: endedSecret, ClientMetadata: oauth.ClientMetadata{
					RedirectURIs: []string{measuredCallback}, Scope: "openid profile offline_access photos:read",
					GrantTypes:               []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken, oauth.GrantTypeClientCredentials},
					IDTokenSignedResponseAlg: "ES256",
				}}},
			},
		},
		Logger: slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelWarn})),
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
	m := &measured{t: t, handler: s, w: recycledWriter{header: make(http.Header)}}
	user := person.New("ada", endedPassword)
	user.Through(m)
	if _, err := user.Visit(m.authorize().URL.String(), measuredCallback); err != nil {
		t.Fatal(err)
	}
	m.cookies = user.Cookies(measuredIssuer)
	return m
}

// RoundTrip calls the handler.
func (m *measured) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	r.Host, r.RemoteAddr = r.URL.Host, "192.0.2.1:1234"
	w := httptest.NewRecorder()
	m.handler.ServeHTTP(w, r)
	return w.Result(), nil
}

func (m *measured) post(path string, form ...string) *http.Request {
	values := url.Values{}
	for i := 0; i < len(form); i += 2 {
		values.Set(form[i], form[i+1])
	}
	r := httptest.NewRequest(http.MethodPost, measuredIssuer+path, nil)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth("app", endedSecret)
	body := values.Encode()
	r.ContentLength, r.Body = int64(len(body)), &repeatedBody{text: body}
	return r
}

func (m *measured) authorize() *http.Request {
	query := url.Values{
		"client_id": {"app"}, "response_type": {"code"}, "redirect_uri": {measuredCallback}, "scope": {"openid profile offline_access photos:read"},
		"state": {"s"}, "nonce": {"n"}, "code_challenge": {oauth.S256Challenge(measuredVerifier)}, "code_challenge_method": {"S256"},
	}
	r := httptest.NewRequest(http.MethodGet, measuredIssuer+"/authorize?"+query.Encode(), nil)
	for _, cookie := range m.cookies {
		r.AddCookie(cookie)
	}
	return r
}

func (m *measured) code() string {
	m.send(m.authorize())
	callback, err := url.Parse(m.w.header.Get("Location"))
	if err != nil || callback.Query().Get("code") == "" {
		m.t.Fatalf("no code: %q, %v", m.w.header.Get("Location"), err)
	}
	return callback.Query().Get("code")
}

func (m *measured) redeem(code string) *http.Request {
	return m.post("/token", "grant_type", "authorization_code", "code", code, "redirect_uri", measuredCallback, "code_verifier", measuredVerifier)
}

func (m *measured) tokens() (t oauth.TokenResponse) {
	m.send(m.redeem(m.code()))
	if err := json.Unmarshal(m.w.body.Bytes(), &t); err != nil || t.RefreshToken == "" || t.IDToken == "" {
		m.t.Fatalf("%s: %v", m.w.body.Bytes(), err)
	}
	return t
}

// send calls the handler.
func (m *measured) send(r *http.Request) {
	m.w.reset()
	if body, ok := r.Body.(*repeatedBody); ok {
		body.read = 0
	}
	m.handler.ServeHTTP(&m.w, r)
	if m.w.status >= 400 {
		m.t.Fatalf("%s: %d %s", r.URL, m.w.status, m.w.body.Bytes())
	}
}

// repeatedBody is a body that can be read again.
type repeatedBody struct {
	text string
	read int
}

func (b *repeatedBody) Read(p []byte) (int, error) {
	if b.read == len(b.text) {
		return 0, io.EOF
	}
	n := copy(p, b.text[b.read:])
	b.read += n
	return n, nil
}

func (b *repeatedBody) Close() error { return nil }

// recycledWriter is a response writer that allocates nothing itself.
type recycledWriter struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *recycledWriter) reset() {
	clear(w.header)
	w.body.Reset()
	w.status = http.StatusOK
}

func (w *recycledWriter) Header() http.Header         { return w.header }
func (w *recycledWriter) WriteHeader(status int)      { w.status = status }
func (w *recycledWriter) Write(b []byte) (int, error) { return w.body.Write(b) }

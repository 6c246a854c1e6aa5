package valetkey

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/internal/pgtest"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// collector is an OTLP receiver.
type collector struct {
	*httptest.Server
	mu      sync.Mutex
	raw     bytes.Buffer // everything that was received
	headers http.Header
	spans   []*tracepb.Span
	metrics map[string]*metricspb.Metric
}

func newCollector(t *testing.T) *collector {
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.raw.Write(body)
		c.headers = r.Header
		switch r.URL.Path {
		case "/v1/traces":
			var data tracepb.TracesData
			if err := proto.Unmarshal(body, &data); err != nil {
				t.Error(err)
				return
			}
			c.spans = append(c.spans, data.ResourceSpans[0].ScopeSpans[0].Spans...)
		case "/v1/metrics":
			var data metricspb.MetricsData
			if err := proto.Unmarshal(body, &data); err != nil {
				t.Error(err)
				return
			}
			c.metrics = map[string]*metricspb.Metric{}
			for _, m := range data.ResourceMetrics[0].ScopeMetrics[0].Metrics {
				c.metrics[m.Name] = m
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

const (
	measuredIssuer   = "https://login.example.com"
	observedCallback = "https://app.example.com/callback"
	observedVerifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
)

// observedAuthorize is an authorization request.
var observedAuthorize = measuredIssuer + "/authorize?" + url.Values{
	"client_id": {"app"}, "response_type": {"code"}, "redirect_uri": {observedCallback}, "scope": {"openid profile offline_access photos:read"},
	"state": {"state-of-the-application"}, "nonce": {"nonce-of-the-application"},
	"code_challenge": {oauth.S256Challenge(observedVerifier)}, "code_challenge_method": {"S256"},
}.Encode()

// newObservedServer returns a server that is measured, and what it logs, as JSON. Close it to send
// everything.
func newObservedServer(t testing.TB, endpoint, database string, change func(*Config)) (*Server, *lockedBuffer) {
	t.Helper()
	t.Setenv("VALETKEY_MASTER_KEY", base64.StdEncoding.EncodeToString(make([]byte, 32)))
	log := &lockedBuffer{}
	config := Config{
		Configuration: configuration.Configuration{
			Issuer: measuredIssuer, Database: database,
			Telemetry:      configuration.Telemetry{MetricsListen: ":0", OTLPEndpoint: endpoint},
			Log:            configuration.Log{Access: true},
			TrustedProxies: []string{"192.0.2.1"},
			Declarations: configuration.Declarations{
				Users:     []configuration.User{{Username: "ada", Password: endedPassword, Name: "Ada Lovelace"}},
				Scopes:    []record.Scope{{Name: "photos:read", Description: "See your photos"}},
				Resources: []record.Resource{{Identifier: "https://photos.example.com", Scopes: []string{"photos:read"}}},
				Clients: []configuration.Client{{ID: "app", Secret: endedSecret, ClientMetadata: oauth.ClientMetadata{
					RedirectURIs: []string{observedCallback}, Scope: "openid profile offline_access photos:read",
					GrantTypes: []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken, oauth.GrantTypeClientCredentials, oauth.GrantTypeDeviceCode},
				}}},
			},
		},
		Logger: slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
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
	return s, log
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// metricsOf returns what Prometheus reads.
func metricsOf(t testing.TB, s *Server) string {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1/metrics", nil)
	w := httptest.NewRecorder()
	s.telemetry.Handler(false).ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("/metrics: %d", w.Code)
	}
	return w.Body.String()
}

// handled lets a person use a handler without a network, and keeps every secret that was sent.
type handled struct {
	http.Handler
	secrets map[string]bool
	header  http.Header // added to each request
}

// RoundTrip implements http.RoundTripper.
func (h *handled) RoundTrip(r *http.Request) (*http.Response, error) {
	h.keepURL(r.URL)
	if r.Body == nil {
		r.Body = http.NoBody
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if form, err := url.ParseQuery(string(body)); err == nil {
		h.keepForm(form)
	}
	for _, c := range r.Cookies() {
		h.keep(c.Value)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	for name, value := range h.header {
		r.Header[name] = value
	}
	r.Host, r.RemoteAddr = r.URL.Host, "192.0.2.1:1234"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	response := w.Result()
	for _, c := range response.Cookies() {
		h.keep(c.Value)
	}
	if location, err := response.Location(); err == nil {
		h.keepURL(location)
	}
	return response, nil
}

func (h *handled) keepURL(u *url.URL) { h.keepForm(u.Query()) }

// public are the values in forms and queries that are not secret, because they are names.
var public = []string{
	"app", "code", "ada", "S256", "authorization_code", "refresh_token", "client_credentials", "photos:read", observedCallback, measuredIssuer, "access_token",
	"nobody", "openid profile offline_access photos:read", oauth.GrantTypeDeviceCode, "allow", "deny", "en", "refused", "offline_access", "openid", "profile",
}

func (h *handled) keepForm(form url.Values) {
	for _, values := range form {
		for _, value := range values {
			h.keep(value)
		}
	}
}

func (h *handled) keep(secret string) {
	if len(secret) >= 6 && !slices.Contains(public, secret) {
		h.secrets[secret] = true
	}
}

// post sends a form as the client, and returns the members of the response.
func (h *handled) post(t *testing.T, path, secret string, form ...string) map[string]any {
	t.Helper()
	values := url.Values{}
	for i := 0; i < len(form); i += 2 {
		values.Set(form[i], form[i+1])
	}
	r, err := http.NewRequest(http.MethodPost, measuredIssuer+path, strings.NewReader(values.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth("app", secret)
	h.keep(secret)
	response, err := h.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.NewDecoder(response.Body).Decode(&members); err != nil && path != "/revoke" {
		t.Fatalf("%s: %v", path, err)
	}
	for name, value := range members {
		if text, ok := value.(string); ok && (strings.HasSuffix(name, "_token") || strings.HasSuffix(name, "_code")) {
			h.keep(text)
		}
	}
	return members
}

// flows uses the server as a user and a client do, with success and with failure.
func (h *handled) flows(t *testing.T) {
	t.Helper()
	user := person.New("ada", endedPassword)
	user.Through(h)
	callback, err := user.Visit(observedAuthorize, observedCallback)
	if err != nil {
		t.Fatal(err)
	}
	code := callback.Query().Get("code")
	redeem := []string{"grant_type", "authorization_code", "code", code, "redirect_uri", observedCallback, "code_verifier", observedVerifier}
	tokens := h.post(t, "/token", endedSecret, redeem...)
	access, _ := tokens["access_token"].(string)
	refresh, _ := tokens["refresh_token"].(string)
	if access == "" || refresh == "" {
		t.Fatalf("no tokens: %v", tokens)
	}
	got := h.post(t, "/introspect", endedSecret, "token", access)
	if got["active"] != true {
		t.Errorf("introspection: %v", got)
	}
	delete(h.secrets, fmt.Sprint(got["sub"])) // the forms of the pages have it, and it is not secret
	h.post(t, "/token", endedSecret, "grant_type", "refresh_token", "refresh_token", refresh)
	h.post(t, "/token", "the wrong secret of a client", "grant_type", "client_credentials")
	h.post(t, "/token", endedSecret, "grant_type", "client_credentials", "scope", "photos:read")
	h.post(t, "/token", endedSecret, redeem...) // the code is used again
	h.post(t, "/token", endedSecret, "grant_type", "authorization_code", "code", "no-such-code-at-all", "redirect_uri", observedCallback, "code_verifier", observedVerifier)
	h.post(t, "/device_authorization", endedSecret, "scope", "photos:read")
	h.post(t, "/revoke", endedSecret, "token", refresh)
	wrong := person.New("ada", "a wrong password that is long enough")
	wrong.Through(h)
	if _, err := wrong.Visit(observedAuthorize, observedCallback); err == nil {
		t.Error("a wrong password is accepted")
	}
	for _, path := range []string{"/no/such/path/with-a-secret-in-it", "/token/another-secret-in-it?code=a-secret-code", "/authorize?client_id=nobody&state=secret-of-nobody"} {
		h.keep(path[strings.LastIndexAny(path, "/=")+1:])
		r, err := http.NewRequest(http.MethodGet, measuredIssuer+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.RoundTrip(r); err != nil {
			t.Fatal(err)
		}
	}
}

// No secret that users, clients and this server send each other is in a span, in a metric, or in the log.
func TestTelemetryHasNoSecrets(t *testing.T) {
	for _, database := range []string{"sqlite", "PostgreSQL"} {
		t.Run(database, func(t *testing.T) {
			address := "sqlite:" + filepath.Join(t.TempDir(), "observed.db")
			if database == "PostgreSQL" {
				address = pgtest.Database(t)
			}
			receiver := newCollector(t)
			s, log := newObservedServer(t, receiver.URL, address, nil)
			h := &handled{Handler: s, secrets: map[string]bool{endedPassword: true, endedSecret: true}, header: http.Header{"Traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}}}
			h.flows(t)
			prometheus := metricsOf(t, s)
			if err := s.Close(); err != nil { // sends the rest
				t.Fatal(err)
			}
			if len(h.secrets) < 20 {
				t.Errorf("only %d secrets were used", len(h.secrets))
			}
			for secret := range h.secrets {
				for name, text := range map[string]string{"OTLP": receiver.raw.String(), "/metrics": prometheus, "the log": log.String()} {
					if strings.Contains(text, secret) || strings.Contains(text, url.QueryEscape(secret)) {
						t.Errorf("%s has %q", name, secret)
					}
				}
			}
			checkSpans(t, receiver, strings.ToLower(database))
			for _, want := range []string{
				`http_server_request_duration_seconds_count{http_request_method="POST",http_route="/token",http_response_status_code="200",valetkey_outcome="ok",url_scheme="https"} 3`,
				`http_route="_OTHER",http_response_status_code="404",valetkey_outcome="refused"`,
				`valetkey_sign_ins_total{valetkey_method="password"} 1`, `valetkey_events_total{valetkey_event="sign_in.failed"}`,
				`valetkey_refusals_total{valetkey_rule="`, `valetkey_signature_duration_seconds_count{valetkey_algorithm="ES256"}`,
				`valetkey_commit_size_count{db_system_name="`, `valetkey_outbox_age_seconds{valetkey_outbox="clients"} `,
				`valetkey_database_size_bytes{`, `valetkey_password_hash_waiting{valetkey_queue="shared"} 0`, `target_info{service_name="valetkey"`,
			} {
				if !strings.Contains(prometheus, want) {
					t.Errorf("/metrics has no %s", want)
				}
			}
			checkLog(t, log.String())
		})
	}
}

// checkSpans checks that every request has a span in the trace that it named, with the operations of the
// database below it.
func checkSpans(t *testing.T, receiver *collector, system string) {
	t.Helper()
	spans := map[string]*tracepb.Span{}
	names := map[string]int{}
	for _, s := range receiver.spans {
		spans[string(s.SpanId)] = s
		names[s.Name]++
	}
	for _, name := range []string{"POST /token", "GET /authorize", "POST /sign-in", "POST /introspect", "GET", "batch", "read tickets", "transaction", "query"} {
		if names[name] == 0 {
			t.Errorf("no span %q among %v", name, names)
		}
	}
	below := 0
	for _, s := range receiver.spans {
		parent := spans[string(s.ParentSpanId)]
		if s.Kind == tracepb.Span_SPAN_KIND_SERVER {
			if fmt.Sprintf("%x %x", s.TraceId, s.ParentSpanId) != "4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7" {
				t.Errorf("%q has the trace %x and the parent %x", s.Name, s.TraceId, s.ParentSpanId)
			}
			continue
		}
		if parent == nil {
			t.Errorf("the span %q has no parent", s.Name)
			continue
		}
		if s.StartTimeUnixNano < parent.StartTimeUnixNano || s.EndTimeUnixNano > parent.EndTimeUnixNano {
			t.Errorf("the span %q is not within %q", s.Name, parent.Name)
		}
		if strings.Contains(fmt.Sprint(s.Attributes), system) {
			below++
		}
	}
	if below < 10 {
		t.Errorf("%d operations of %s", below, system)
	}
}

// checkLog checks that each record of a request names its trace.
func checkLog(t *testing.T, log string) {
	t.Helper()
	requests := 0
	for line := range strings.Lines(log) {
		var record struct {
			Msg, Path, Event, Endpoint string
			Trace                      string `json:"trace_id"`
			Span                       string `json:"span_id"`
			Status                     int
		}
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if record.Msg == "request" || record.Endpoint != "" {
			requests++
			if record.Trace != "4bf92f3577b34da6a3ce929d0e0e4736" || len(record.Span) != 16 {
				t.Errorf("the record does not name its trace: %s", line)
			}
		}
	}
	if requests < 20 {
		t.Errorf("%d records of requests", requests)
	}
}

// seriesOf returns the series of metrics without their values.
func seriesOf(metrics string) (all []string) {
	for line := range strings.Lines(metrics) {
		if name, _, ok := strings.Cut(line, "} "); ok && !strings.HasPrefix(line, "#") {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// A stranger who varies everything that a request consists of adds no series.
func TestAStrangerAddsNoSeries(t *testing.T) {
	s, _ := newObservedServer(t, "", "sqlite::memory:", func(c *Config) {
		c.Logger = slog.New(slog.DiscardHandler)
		c.Log.Access = false
	})
	send := func(n int) {
		random := rand.New(rand.NewPCG(1, uint64(n)))
		text := func() string { return fmt.Sprintf("x%016x", random.Uint64()) }
		kinds := []func() *http.Request{
			func() *http.Request {
				return strangersForm("/token", url.Values{"client_id": {text()}, "client_secret": {text()}, "grant_type": {"client_credentials"}})
			},
			func() *http.Request {
				return strangersForm("/token", url.Values{"client_id": {text()}, "grant_type": {text()}})
			},
			func() *http.Request {
				return httptest.NewRequest(http.MethodGet, measuredIssuer+"/authorize?response_type="+text()+"&client_id="+text()+"&scope="+text(), nil)
			},
			func() *http.Request {
				return httptest.NewRequest(http.MethodGet, measuredIssuer+"/"+text()+"/"+text(), nil)
			},
			func() *http.Request {
				return httptest.NewRequest(strings.ToUpper(text()), measuredIssuer+"/jwks", nil)
			},
			func() *http.Request {
				return httptest.NewRequest(http.MethodGet, measuredIssuer+"/upstream/"+text()+"/callback", nil)
			},
			func() *http.Request {
				return httptest.NewRequest(http.MethodGet, measuredIssuer+"/manage/v1/clients/"+text(), nil)
			},
			func() *http.Request {
				return httptest.NewRequest(http.MethodGet, measuredIssuer+"/manage/v1/"+text(), nil)
			},
			func() *http.Request {
				r := httptest.NewRequest(http.MethodGet, measuredIssuer+"/jwks", nil)
				r.Host = text() + ".example"
				return r
			},
		}
		for i := range n {
			r := kinds[i%len(kinds)]()
			r.RemoteAddr = fmt.Sprintf("[2001:db8:%x:%x::1]:1234", random.IntN(1<<16), random.IntN(1<<16))
			r.Header.Set("User-Agent", text())
			r.Header.Set("Origin", "https://"+text()+".example")
			r.Header.Set("Traceparent", fmt.Sprintf("00-%032x-%016x-01", random.Uint64()|1, random.Uint64()|1))
			s.ServeHTTP(httptest.NewRecorder(), r)
		}
	}
	send(2000)
	before := seriesOf(metricsOf(t, s))
	send(strangersRequests)
	after := seriesOf(metricsOf(t, s))
	if !slices.Equal(before, after) {
		for _, name := range after {
			if !slices.Contains(before, name) {
				t.Errorf("new series: %s", name)
			}
		}
	}
	if len(after) == 0 || len(after) > 500 {
		t.Errorf("%d series", len(after))
	}
	if !strings.Contains(strings.Join(after, " "), `http_route="/manage/v1/clients/{client_id}"`) {
		t.Error("no series of the management API")
	}
}

func strangersForm(path string, form url.Values) *http.Request {
	r := httptest.NewRequest(http.MethodPost, measuredIssuer+path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

// A client that closes the connection is not an error of the server, and has an outcome of its own.
func TestAClientThatGoesAwayIsNoError(t *testing.T) {
	for _, path := range []string{"/account", "/token", "/sign-in"} {
		s, log := newObservedServer(t, "", "sqlite::memory:", nil)
		user := person.New("ada", endedPassword)
		h := &handled{Handler: s, secrets: map[string]bool{}}
		user.Through(h)
		if _, err := user.Visit(observedAuthorize, observedCallback); err != nil { // signs in
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		r := strangersForm(path, url.Values{"grant_type": {"client_credentials"}})
		if path != "/token" {
			r = httptest.NewRequest(http.MethodGet, measuredIssuer+path, nil)
		}
		for _, c := range user.Cookies(measuredIssuer) {
			r.AddCookie(c)
		}
		r.SetBasicAuth("unknown-to-memory", endedSecret)
		cancel()
		s.ServeHTTP(httptest.NewRecorder(), r.WithContext(ctx))
		if strings.Contains(log.String(), `"level":"ERROR"`) {
			t.Errorf("%s: the log has an error:\n%s", path, log.String())
		}
		if text := metricsOf(t, s); !strings.Contains(text, `http_route="`+path+`",valetkey_outcome="canceled"`) {
			t.Errorf("%s: no canceled request in\n%s", path, text)
		}
	}
}

// Prometheus is served on its own listener, and not below the issuer.
func TestMetricsAreNotBelowTheIssuer(t *testing.T) {
	s, _ := newObservedServer(t, "", "sqlite::memory:", nil)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, measuredIssuer+"/metrics", nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("/metrics of the issuer: %d", w.Code)
	}
}

// A request costs the same, whether it is measured or not, apart from a few allocations.
func BenchmarkTelemetry(b *testing.B) {
	for name, c := range map[string]configuration.Telemetry{
		"off": {}, "metrics": {MetricsListen: ":0"}, "1 percent": {MetricsListen: ":0", OTLPEndpoint: "http://127.0.0.1:1", SampleRatio: new(0.01)}, "all": {OTLPEndpoint: "http://127.0.0.1:1"},
	} {
		b.Run(name, func(b *testing.B) {
			s, _ := newObservedServer(b, "", "sqlite::memory:", func(config *Config) {
				config.Telemetry, config.Log.Access = c, false
				config.Logger = slog.New(slog.DiscardHandler)
			})
			b.ReportAllocs()
			for b.Loop() {
				r := strangersForm("/token", url.Values{"grant_type": {"client_credentials"}, "scope": {"photos:read"}})
				r.SetBasicAuth("app", endedSecret)
				w := httptest.NewRecorder()
				if s.ServeHTTP(w, r); w.Code != http.StatusOK {
					b.Fatal(w.Body)
				}
			}
		})
	}
}

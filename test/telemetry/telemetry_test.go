// Package telemetry tests the metrics, traces, alerts and the dashboard with real Prometheus and a real
// OpenTelemetry collector.
package telemetry

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/internal/pgtest"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

const (
	rulesFile     = "../../deploy/prometheus/valetkey.rules.yml"
	rulesTest     = "../../deploy/prometheus/valetkey.rules.test.yml"
	dashboardFile = "../../deploy/grafana/valetkey.json"

	clientSecret = "0123456789abcdef0123456789abcdef"
	password     = "analytical engine no. 1"
	callback     = "http://127.0.0.1/callback"
)

// program returns the path of an installed program. Without it, the test is skipped, or fails if
// CI=true.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("%s is not installed (Debian package prometheus)", name)
	return ""
}

func TestAlertRules(t *testing.T) {
	promtool := program(t, "promtool")
	for _, arguments := range [][]string{{"check", "rules", rulesFile}, {"test", "rules", rulesTest}} {
		if output, err := exec.CommandContext(t.Context(), promtool, arguments...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(arguments, " "), err, output)
		}
	}
}

// The dashboard has the schema that Grafana publishes, with the options of each kind of panel.
func TestDashboardSchema(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	//lint:ignore SA1019 Grafana imports dashboards of this version; the next one is for its API only
	var d dashboard.Dashboard
	if err := d.UnmarshalJSONStrict(text); err != nil && err.Error() != "" { // an empty list of errors is not nil
		t.Error(err)
	}
	if err := d.Validate(); err != nil {
		t.Error(err)
	}
}

// target is a query of a panel.
type target struct{ panel, query string }

func targets(t *testing.T) (all []target) {
	t.Helper()
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	// What Grafana puts in for its variables.
	variables := strings.NewReplacer("$__rate_interval", "30s", "$instance", ".*")
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			all = append(all, target{p.Title, variables.Replace(q.Expr)})
		}
	}
	if len(all) < 20 {
		t.Fatalf("the dashboard has %d queries", len(all))
	}
	return all
}

// server is a server with clients that use it.
type server struct {
	*valetkey.Server
	issuer, metrics string
	stop            func()
}

// start starts a server on loopback that is measured.
func start(t *testing.T, database string, o configuration.Telemetry) *server {
	t.Helper()
	t.Setenv("VALETKEY_MASTER_KEY", base64.StdEncoding.EncodeToString(make([]byte, 32)))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"claims":{}}`)
	}))
	t.Cleanup(hook.Close)
	issuer := "http://" + listener.Addr().String()
	s, err := valetkey.New(valetkey.Config{
		Configuration: configuration.Configuration{
			Issuer: issuer, Database: database, Telemetry: o,
			Hooks:    []configuration.Hook{{URL: hook.URL, Secret: "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 32)), GrantTypes: []string{oauth.GrantTypeClientCredentials}}},
			Outgoing: configuration.Outgoing{Networks: []string{"127.0.0.0/8"}},
			Declarations: configuration.Declarations{
				Users: []configuration.User{{Username: "ada", Password: password}},
				Clients: []configuration.Client{{ID: "app", Secret: clientSecret, ClientMetadata: oauth.ClientMetadata{
					RedirectURIs: []string{callback}, Scope: "openid photos",
					GrantTypes: []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeClientCredentials},
				}}},
				Scopes:    []record.Scope{{Name: "photos"}},
				Resources: []record.Resource{{Identifier: "https://photos.example.com", Scopes: []string{"photos"}}},
			},
		},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.Serve(ctx, listener); err != nil {
			t.Error(err)
		}
	})
	serving.Go(func() {
		if err := s.ServeMetrics(ctx, metrics); err != nil {
			t.Error(err)
		}
	})
	stop := sync.OnceFunc(func() {
		cancel()
		serving.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return &server{s, issuer, metrics.Addr().String(), stop}
}

// use sends what users, clients and strangers send.
func (s *server) use(t *testing.T) {
	t.Helper()
	verifier := oauth.NewCodeVerifier()
	query := url.Values{
		"client_id": {"app"}, "response_type": {"code"}, "redirect_uri": {callback}, "scope": {"openid photos"}, "state": {"s"},
		"code_challenge": {oauth.S256Challenge(verifier)}, "code_challenge_method": {"S256"},
	}
	at, err := person.New("ada", password).Visit(s.issuer+"/authorize?"+query.Encode(), callback)
	if err != nil {
		t.Fatal(err)
	}
	s.post(t, http.StatusOK, clientSecret, url.Values{"grant_type": {"authorization_code"}, "code": {at.Query().Get("code")}, "redirect_uri": {callback}, "code_verifier": {verifier}})
	s.post(t, http.StatusOK, clientSecret, url.Values{"grant_type": {"client_credentials"}, "scope": {"photos"}})
	s.post(t, http.StatusUnauthorized, "another secret, which is wrong", url.Values{"grant_type": {"client_credentials"}})
	for _, path := range []string{"/no/such/path", "/authorize?client_id=unknown", "/jwks"} {
		response, err := http.Get(s.issuer + path)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	}
}

func (s *server) post(t *testing.T, want int, secret string, form url.Values) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.issuer+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth("app", secret)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != want {
		body, _ := io.ReadAll(response.Body)
		t.Fatalf("%s: %d %s", form.Get("grant_type"), response.StatusCode, body)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// run runs a program until the test ends, and returns what it prints.
func run(t *testing.T, command *exec.Cmd) *output {
	t.Helper()
	o := &output{}
	command.Stdout, command.Stderr = o, o
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait() // it was killed
	})
	return o
}

type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// prometheus is a Prometheus that reads a server.
type prometheus struct {
	address string
	log     *output
}

func startPrometheus(t *testing.T, metrics string) *prometheus {
	t.Helper()
	binary := program(t, "prometheus")
	rules, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	config := filepath.Join(folder, "prometheus.yml")
	text := fmt.Sprintf("global: {scrape_interval: 500ms, evaluation_interval: 1s}\nrule_files: [%q]\nscrape_configs:\n  - job_name: valetkey\n    static_configs:\n      - targets: [%q]\n", rules, metrics)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &prometheus{address: freeAddress(t)}
	p.log = run(t, exec.Command(binary, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(folder, "data"), "--web.listen-address="+p.address, "--log.level=warn"))
	return p
}

// get calls the API. ok is false while Prometheus does not respond.
func (p *prometheus) get(path string, query url.Values, data any) (ok bool, failure string) {
	response, err := http.Get("http://" + p.address + path + "?" + query.Encode())
	if err != nil {
		return false, err.Error()
	}
	defer response.Body.Close()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return false, err.Error()
	}
	if answer.Status != "success" {
		return false, answer.Error
	}
	return json.Unmarshal(answer.Data, data) == nil, ""
}

// Queries of the dashboard that have no result here: nothing fails and nothing waits.
var mayBeEmpty = []string{"Errors"}

// Prometheus reads the metrics, every query of the dashboard has a result, and every alert can be
// evaluated. On PostgreSQL, because SQLite has no connections.
func TestPrometheus(t *testing.T) {
	s := start(t, pgtest.Database(t), configuration.Telemetry{MetricsListen: ":0"})
	p := startPrometheus(t, s.metrics)
	open := targets(t)
	var failure string
	for deadline := time.Now().Add(time.Minute); len(open) > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("these queries have no result: %q; the last error is %q\n%s", open, failure, p.log)
		}
		s.use(t)
		open = slices.DeleteFunc(open, func(q target) bool {
			var data struct{ Result []json.RawMessage }
			ok, failed := p.get("/api/v1/query", url.Values{"query": {q.query}}, &data)
			if failed != "" {
				failure = failed
			}
			return ok && (len(data.Result) > 0 || slices.Contains(mayBeEmpty, q.panel))
		})
	}
	p.checkRules(t)
	var data struct {
		Result []struct{ Metric map[string]string }
	}
	if ok, failed := p.get("/api/v1/query", url.Values{"query": {`http_server_request_duration_seconds_count{http_route="/token"}`}}, &data); !ok || len(data.Result) < 2 {
		t.Errorf("requests to /token: %v, %s", data.Result, failed)
	}
}

// checkRules waits until every rule was evaluated, without an error.
func (p *prometheus) checkRules(t *testing.T) {
	t.Helper()
	var data struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError, State string }
		}
	}
	for deadline := time.Now().Add(time.Minute); ; {
		ok, failure := p.get("/api/v1/rules", nil, &data)
		waiting := !ok
		for _, group := range data.Groups {
			for _, r := range group.Rules {
				if r.Health == "err" {
					t.Errorf("%s: %s", r.Name, r.LastError)
				}
				if r.State == "firing" {
					t.Errorf("%s fires", r.Name)
				}
				waiting = waiting || r.Health == "unknown"
			}
		}
		if !waiting && len(data.Groups) == 1 && len(data.Groups[0].Rules) > 5 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the rules were not evaluated: %v, %s", data.Groups, failure)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// An OpenTelemetry collector reads the traces and metrics.
func TestCollector(t *testing.T) {
	folder := t.TempDir()
	binary := filepath.Join(folder, "otelcol")
	// It is a separate module, so that its dependencies are not the server's.
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-s -w", "-o", binary, ".")
	build.Dir, build.Env = "otelcol", append(os.Environ(), "GOWORK=off")
	if text, err := build.CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the collector cannot be built: %v\n%s", err, text)
		}
		t.Skipf("the collector cannot be built: %v\n%s", err, text)
	}
	address, config := freeAddress(t), filepath.Join(folder, "collector.yaml")
	text := fmt.Sprintf(`receivers: {otlp: {protocols: {http: {endpoint: %q}}}}
exporters: {debug: {verbosity: detailed}}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp], exporters: [debug]}
    metrics: {receivers: [otlp], exporters: [debug]}
`, address)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	received := run(t, exec.Command(binary, "--config="+config))
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the collector does not listen:\n%s", received)
		}
	}
	s := start(t, "sqlite::memory:", configuration.Telemetry{OTLPEndpoint: "http://" + address})
	s.use(t)
	s.stop() // sends the rest
	want := []string{
		"Name           : POST /token", "Kind           : Server", "Name           : batch", "http.route: Str(/token)", "http.response.status_code: Int(401)",
		"db.system.name: Str(sqlite)", "service.name: Str(valetkey)", "valetkey.rule: Str(", "server.address: Str(127.0.0.1)",
		"Name: http.server.request.duration", "DataType: Histogram", "AggregationTemporality: Cumulative", "Name: valetkey.refusals", "IsMonotonic: true", "Name: valetkey.database.size",
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		printed := received.String()
		missing := slices.DeleteFunc(slices.Clone(want), func(text string) bool { return strings.Contains(printed, text) })
		if len(missing) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the collector has not received %q, but\n%s", missing, printed)
		}
	}
	for _, secret := range []string{clientSecret, password, "another secret"} {
		if strings.Contains(received.String(), secret) {
			t.Errorf("the collector has received %q", secret)
		}
	}
}

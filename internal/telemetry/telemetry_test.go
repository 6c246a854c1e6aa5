package telemetry

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// The example of W3C Trace Context, section 3.2.
const exampleTraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func TestTraceParentIsRead(t *testing.T) {
	for _, c := range []struct {
		header string
		ok     bool
	}{
		{exampleTraceParent, true},
		{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", true},
		{"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-will-be-like", true}, // a higher version
		{"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true},
		{"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.what", false},
		{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", false}, // version 00 has no more
		{"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false},      // forbidden
		{"00-00000000000000000000000000000000-00f067aa0ba902b7-01", false},
		{"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false},
		{"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false}, // upper case
		{"00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01", false},
		{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x", false},
		{"", false},
		{strings.Repeat("-", 55), false},
	} {
		traceID, parent, _, ok := parseTraceParent(c.header)
		if ok != c.ok {
			t.Errorf("%q: %v", c.header, ok)
		}
		if ok && (hex.EncodeToString(traceID[:]) != "4bf92f3577b34da6a3ce929d0e0e4736" || hex.EncodeToString(parent[:]) != "00f067aa0ba902b7") {
			t.Errorf("%q: trace %x, parent %x", c.header, traceID, parent)
		}
	}
}

func FuzzParseTraceParent(f *testing.F) {
	f.Add(exampleTraceParent)
	f.Add("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x")
	f.Fuzz(func(t *testing.T, header string) {
		traceID, parent, _, ok := parseTraceParent(header)
		if ok && !strings.HasPrefix(header[2:], fmt.Sprintf("-%x-%x-", traceID, parent)) {
			t.Errorf("%q is read as %x, %x", header, traceID, parent)
		}
	})
}

// receiver is an OTLP receiver that decodes with the types of OpenTelemetry.
type receiver struct {
	t       *testing.T
	status  func() int // nil: 200
	headers []http.Header
	spans   []*tracepb.Span
	metrics map[string]*metricspb.Metric // the last ones
	all     bytes.Buffer
}

// RoundTrip implements http.RoundTripper.
func (r *receiver) RoundTrip(request *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, err
	}
	response := &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Header: http.Header{}}
	if r.status != nil {
		if response.StatusCode = r.status(); response.StatusCode != http.StatusOK {
			return response, nil
		}
	}
	r.headers = append(r.headers, request.Header)
	r.all.Write(body)
	switch request.URL.Path {
	case "/v1/traces":
		var data tracepb.TracesData // has the same fields as ExportTraceServiceRequest
		if err := proto.Unmarshal(body, &data); err != nil {
			r.t.Error(err)
			break
		}
		if u := data.ProtoReflect().GetUnknown(); len(u) > 0 {
			r.t.Errorf("unknown fields %x", u)
		}
		for _, resource := range data.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				r.spans = append(r.spans, scope.Spans...)
			}
		}
	case "/v1/metrics":
		var data metricspb.MetricsData
		if err := proto.Unmarshal(body, &data); err != nil {
			r.t.Error(err)
			break
		}
		r.metrics = map[string]*metricspb.Metric{}
		for _, m := range data.ResourceMetrics[0].ScopeMetrics[0].Metrics {
			r.metrics[m.Name] = m
		}
	default:
		r.t.Errorf("a request for %s", request.URL.Path)
	}
	return response, nil
}

// newObserved returns a Telemetry that sends to a receiver.
func newObserved(t *testing.T, ratio float64) (*Telemetry, *receiver) {
	r := &receiver{t: t}
	observed := New(Config{
		Endpoint: "http://collector.example:4318/", Headers: map[string]string{"Api-Key": "secret-api-key"}, SampleRatio: ratio,
		ServiceName: "login", ServiceVersion: "1", Scheme: "https", Attributes: [][2]string{{"deployment.environment.name", "test"}},
	})
	observed.client.Transport = r
	return observed, r
}

// run runs f in a bubble while observed sends.
func run(t *testing.T, observed *Telemetry, log *slog.Logger, f func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		observed.Run(ctx, log)
		close(done)
	}()
	f()
	stop()
	<-done
}

var discard = slog.New(slog.DiscardHandler)

// request makes a request whose handler is f.
func request(observed *Telemetry, method, route, traceParent string, trusted bool, status int, f func(context.Context)) {
	r := httptest.NewRequest(method, "https://login.example.com"+route+"?code=secret-in-the-query", nil)
	if traceParent != "" {
		r.Header.Set("Traceparent", traceParent)
	}
	span := new(Span)
	observed.StartRequest(span, r, time.Now(), func() bool { return trusted })
	if f != nil {
		f(context.WithValue(r.Context(), ContextKey, span))
	}
	span.EndRequest(r, route, status, false)
}

func TestSpansAreSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		observed, receiver := newObserved(t, 1)
		run(t, observed, discard, func() {
			request(observed, http.MethodPost, "/token", exampleTraceParent, false, 401, func(ctx context.Context) {
				operation := observed.StartOperation(ctx, "sqlite", "batch")
				time.Sleep(20 * time.Millisecond)
				operation.End(3, nil)
				observed.Refused(ctx, "the client exists", "invalid_client", "7K3M-2QXA")
			})
			time.Sleep(spansEvery)
		})
		if len(receiver.spans) != 2 {
			t.Fatalf("%d spans", len(receiver.spans))
		}
		child, root := receiver.spans[0], receiver.spans[1]
		if root.Name != "POST /token" || root.Kind != tracepb.Span_SPAN_KIND_SERVER || hex.EncodeToString(root.TraceId) != exampleTraceParent[3:35] || hex.EncodeToString(root.ParentSpanId) != exampleTraceParent[36:52] {
			t.Errorf("the request has the span %v", root)
		}
		if child.Name != "batch" || !bytes.Equal(child.ParentSpanId, root.SpanId) || !bytes.Equal(child.TraceId, root.TraceId) || child.Kind != tracepb.Span_SPAN_KIND_CLIENT {
			t.Errorf("the operation has the span %v", child)
		}
		if took := time.Duration(child.EndTimeUnixNano - child.StartTimeUnixNano); took != 20*time.Millisecond {
			t.Errorf("the operation took %v", took)
		}
		for _, want := range []string{`key:"http.route"`, `int_value:401`, `string_value:"refused"`, `string_value:"the client exists"`, `string_value:"invalid_client"`} {
			if !strings.Contains(strings.ReplaceAll(root.String(), "  ", " "), want) {
				t.Errorf("the span has no %s: %v", want, root)
			}
		}
		if got := receiver.headers[0].Get("Api-Key"); got != "secret-api-key" {
			t.Errorf("Api-Key: %q", got)
		}
		if strings.Contains(receiver.all.String(), "secret") {
			t.Error("a secret was sent")
		}
	})
}

// Whether a request is sampled is not up to strangers.
func TestStrangersDoNotDecideWhatIsSampled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			ratio   float64
			flags   string
			trusted bool
			spans   int
		}{
			{0.0001, "01", false, 0}, {0.0001, "01", true, 1}, {1, "00", false, 1}, {1, "00", true, 0},
		} {
			observed, receiver := newObserved(t, c.ratio)
			run(t, observed, discard, func() {
				request(observed, http.MethodGet, "/jwks", exampleTraceParent[:53]+c.flags, c.trusted, 200, nil)
			})
			if len(receiver.spans) != c.spans {
				t.Errorf("%+v: %d spans", c, len(receiver.spans))
			}
		}
	})
}

func TestMetricsAreSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		observed, receiver := newObserved(t, 0)
		run(t, observed, discard, func() {
			for range 3 {
				request(observed, http.MethodPost, "/token", "", false, 200, nil)
			}
			observed.Committed("sqlite", 5)
			observed.Outbox("users", 7, 90*time.Second, nil)
			time.Sleep(time.Minute)
			synctest.Wait()
			if receiver.metrics == nil {
				t.Error("no metrics after a minute")
			}
		})
		m := receiver.metrics["http.server.request.duration"].GetHistogram()
		if m.AggregationTemporality != metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE || len(m.DataPoints) != 1 || m.DataPoints[0].Count != 3 ||
			len(m.DataPoints[0].BucketCounts) != len(httpBounds)+1 || m.DataPoints[0].BucketCounts[0] != 3 || len(m.DataPoints[0].ExplicitBounds) != len(httpBounds) {
			t.Errorf("requests: %v", m)
		}
		if m := receiver.metrics["valetkey.commit.size"].GetHistogram().DataPoints[0]; m.GetSum() != 5 || m.BucketCounts[3] != 1 {
			t.Errorf("commits: %v", m)
		}
		if m := receiver.metrics["valetkey.outbox.age"].GetGauge().DataPoints[0]; m.GetAsDouble() != 90 {
			t.Errorf("outbox: %v", m)
		}
		if m := receiver.metrics["http.server.active_requests"].GetSum(); m.IsMonotonic || m.DataPoints[0].GetAsInt() != 0 {
			t.Errorf("active requests: %v", m)
		}
		if m := receiver.metrics["valetkey.telemetry.dropped_spans"].GetSum(); !m.IsMonotonic || m.DataPoints[0].GetAsInt() != 0 {
			t.Errorf("dropped spans: %v", m)
		}
		if len(receiver.spans) > 0 {
			t.Error("spans were sent with a ratio of zero")
		}
	})
}

// A receiver that does not respond costs neither memory without limit nor a log record for each attempt.
func TestAReceiverThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		observed, receiver := newObserved(t, 1)
		var status atomic.Int64
		status.Store(http.StatusServiceUnavailable)
		receiver.status = func() int { return int(status.Load()) }
		var log bytes.Buffer
		run(t, observed, slog.New(slog.NewTextHandler(&log, nil)), func() {
			for range 3 * maxQueued {
				request(observed, http.MethodGet, "/jwks", "", false, 200, nil)
			}
			time.Sleep(10 * time.Minute)
			if n := strings.Count(log.String(), "not accepted"); n != 1 {
				t.Errorf("%d log records:\n%s", n, log.String())
			}
			if n := observed.dropped.of(values{}).count.Load(); n != 3*maxQueued {
				t.Errorf("%d spans were dropped of %d", n, 3*maxQueued)
			}
			status.Store(http.StatusOK)
			request(observed, http.MethodGet, "/jwks", "", false, 200, nil)
			time.Sleep(time.Minute)
		})
		if len(receiver.spans) != 1 || !strings.Contains(log.String(), "accepted by the receiver again") {
			t.Errorf("%d spans afterwards, and the log\n%s", len(receiver.spans), log.String())
		}
		if strings.Contains(log.String(), "secret") {
			t.Errorf("the log has a secret:\n%s", log.String())
		}
	})
}

func TestValuesOutsideOfASetAreOneSeries(t *testing.T) {
	observed := New(Config{Scheme: "https"})
	for i := range 1000 {
		observed.hashesRunning.set(1, values{fmt.Sprint("queue ", i)})
		observed.refusals.add(1, values{fmt.Sprint("rule ", i)})
		request(observed, fmt.Sprint("METHOD", i), "", "", false, 404, nil)
	}
	for _, m := range []*metric{observed.hashesRunning, observed.requests, observed.active} {
		if n := len(m.points()); n != 1 {
			t.Errorf("%s has %d series", m.name, n)
		}
	}
	for i := range 2 * maxSeries {
		observed.refusals.add(1, values{fmt.Sprint("rule ", i)})
	}
	if n := len(observed.refusals.points()); n > maxSeries+1 {
		t.Errorf("%s has %d series", observed.refusals.name, n)
	}
}

// Values of the same length share a slot, and are still different series.
func TestSeriesThatShareASlot(t *testing.T) {
	observed := New(Config{Scheme: "https"})
	names := []string{"first", "other", "third"}
	for range 2 {
		for i, name := range names {
			observed.refusals.add(int64(i+1), values{name})
		}
	}
	for i, name := range names {
		if n := observed.refusals.of(values{name}).count.Load(); n != int64(2*(i+1)) {
			t.Errorf("%s: %d", name, n)
		}
	}
	if n := len(observed.refusals.points()); n != len(names) {
		t.Errorf("%d series", n)
	}
}

// The ID of a span is chosen when something names it, and is then the same for all.
func TestIDsAreChosenOnce(t *testing.T) {
	observed := New(Config{Scheme: "https"})
	span := new(Span)
	observed.StartRequest(span, httptest.NewRequest(http.MethodGet, "/jwks", nil), time.Now(), nil)
	if span.own != (place{}) {
		t.Error("a span has an ID that nothing has asked for")
	}
	const callers = 8
	headers := make(chan string, callers)
	for range callers {
		go func() { headers <- span.traceParent() }()
	}
	first := <-headers
	if _, _, _, ok := parseTraceParent(first); !ok {
		t.Errorf("traceparent: %q", first)
	}
	for range callers - 1 {
		if h := <-headers; h != first {
			t.Errorf("traceparent: %q and %q", first, h)
		}
	}
}

// A gauge whose value is unknown disappears: an old value would look like a current one.
func TestUnknownGaugesDisappear(t *testing.T) {
	observed := New(Config{Scheme: "https"})
	observed.DatabaseSize("sqlite", 4096, nil)
	if text := string(observed.prometheus()); !strings.Contains(text, `valetkey_database_size_bytes{db_system_name="sqlite"} 4096`) {
		t.Errorf("no size in\n%s", text)
	}
	observed.DatabaseSize("sqlite", 0, io.EOF)
	if text := string(observed.prometheus()); strings.Contains(text, "valetkey_database_size_bytes") {
		t.Errorf("a size in\n%s", text)
	}
}

func TestLogRecordsNameTheTrace(t *testing.T) {
	observed := New(Config{Scheme: "https"})
	var text bytes.Buffer
	log := observed.Logger(slog.New(slog.NewJSONHandler(&text, nil))).With("part", "test")
	if Of(log) != observed {
		t.Error("Of does not return the telemetry of a logger")
	}
	if Of(slog.Default()) != nil {
		t.Error("Of returns the telemetry of another logger")
	}
	request(observed, http.MethodGet, "/jwks", exampleTraceParent, false, 200, func(ctx context.Context) { log.InfoContext(ctx, "hello") })
	var record struct {
		Trace string `json:"trace_id"`
		Span  string `json:"span_id"`
	}
	if err := json.Unmarshal(text.Bytes(), &record); err != nil || record.Trace != exampleTraceParent[3:35] || len(record.Span) != 16 {
		t.Errorf("%s: %v", text.String(), err)
	}
}

// Services of the operator get the trace; others do not.
func TestTheTraceGoesToTheOperatorsServices(t *testing.T) {
	for destination, wanted := range map[string]bool{DestinationOperator: true, DestinationOutsider: false} {
		observed, _ := newObserved(t, 1)
		var got http.Header
		transport := observed.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
			got = r.Header
			return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
		}), destination)
		request(observed, http.MethodGet, "/jwks", exampleTraceParent, true, 200, func(ctx context.Context) {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://hook.example/?token=secret", nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := transport.RoundTrip(r); err != nil {
				t.Fatal(err)
			}
			if r.Header.Get("Traceparent") != "" {
				t.Error("the request of the caller was modified")
			}
		})
		sent, _, _, ok := parseTraceParent(got.Get("Traceparent"))
		if ok != wanted || ok && hex.EncodeToString(sent[:]) != exampleTraceParent[3:35] {
			t.Errorf("%s got %q", destination, got.Get("Traceparent"))
		}
		span := <-observed.spans
		if text := fmt.Sprint(span.attributes); !strings.Contains(text, "hook.example") || strings.Contains(text, "secret") {
			t.Errorf("the span has %s", text)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestHostsOfTheListener(t *testing.T) {
	observed := New(Config{Scheme: "https"})
	for host, want := range map[string]int{
		"127.0.0.1:9464": 200, "[::1]:9464": 200, "localhost:9464": 200, "localhost": 200, "evil.example:9464": 421, "": 421,
	} {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.Host = host
		w := httptest.NewRecorder()
		observed.Handler(false).ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%q: %d", host, w.Code)
		}
	}
}

// Nothing is allocated if there is no telemetry.
func TestOffIsFree(t *testing.T) {
	var off *Telemetry
	r := httptest.NewRequest(http.MethodGet, "/jwks", nil)
	n := testing.AllocsPerRun(100, func() {
		var span *Span
		off.StartRequest(span, r, time.Time{}, nil)
		off.StartOperation(r.Context(), "sqlite", "batch").End(1, nil)
		off.Refused(r.Context(), "rule", "error", "reference")
		off.Event("event")
		off.Signed("ES256", time.Time{})
		span.EndRequest(r, "/jwks", 200, false)
	})
	if n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRequest(b *testing.B) {
	for name, ratio := range map[string]float64{"unsampled": 0, "sampled": 1} {
		b.Run(name, func(b *testing.B) {
			observed := New(Config{Endpoint: "http://127.0.0.1:1", SampleRatio: ratio, Scheme: "https"})
			r := httptest.NewRequest(http.MethodPost, "/token", nil)
			go func() {
				for range observed.spans {
				}
			}()
			b.ReportAllocs()
			for b.Loop() {
				span := new(Span)
				observed.StartRequest(span, r, time.Now(), nil)
				observed.StartOperation(context.WithValue(r.Context(), ContextKey, span), "sqlite", "batch").End(1, nil)
				observed.Signed("ES256", span.began)
				span.EndRequest(r, "/token", 200, false)
			}
		})
	}
}

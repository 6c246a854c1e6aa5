// Package telemetry measures the server: metrics, and traces of requests (OpenTelemetry).
//
// A Telemetry belongs to a logger (Telemetry.Logger), because every part of the server has one
// already: Of returns it. Without telemetry, Of returns nil. All methods of a nil Telemetry, a nil
// Span and a zero Operation do nothing, and allocate nothing.
//
// No secret may enter a span or a label: both contain only what the callers name, which are
// constants, numbers, names of algorithms, and hosts. Nobody outside can multiply the series of a
// metric: the values of labels come from closed sets.
//
//	telemetry.go   Telemetry and its life
//	metric.go      counters, gauges and histograms
//	table.go       the metrics of this server
//	span.go        spans; traceparent (W3C Trace Context)
//	request.go     a request to the server
//	operation.go   a statement or a batch of the database
//	transport.go   a request that the server sends
//	log.go         the trace of a log record
//	prometheus.go  the text format of Prometheus
//	otlp.go        the messages of OTLP; protobuf.go, their encoding
//	export.go      sending them
//	handler.go     /metrics
package telemetry

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Config configures a Telemetry.
type Config struct {
	// Endpoint is the base URL of an OTLP receiver; "" if nothing is sent. Headers are sent with each
	// request to it, and may contain a secret.
	Endpoint string
	Headers  map[string]string
	// SampleRatio is which part of the requests is traced, from 0 to 1. Spans are recorded only if there
	// is an Endpoint.
	SampleRatio float64
	// MetricsEvery is how often metrics are sent to the Endpoint; zero means once a minute.
	MetricsEvery time.Duration
	// ServiceName, ServiceVersion and Attributes describe the server (OpenTelemetry: resource).
	ServiceName, ServiceVersion string
	Attributes                  [][2]string
	// Scheme is the scheme of the issuer: "https" or "http".
	Scheme string
}

// Telemetry collects metrics and spans. It is safe for concurrent use. Its methods do nothing if it is
// nil.
type Telemetry struct {
	config   Config
	resource []attribute
	began    time.Time
	table
	status [600]string // the text of each status code

	spans chan *recorded // to be sent; nil if none are
	// client sends to the Endpoint.
	client *http.Client

	collecting sync.Mutex
	collected  time.Time
	collectors []func(context.Context)

	failing atomic.Bool // the last attempt to send has failed
}

// New returns a Telemetry. Run sends what it collects.
func New(config Config) *Telemetry {
	if config.MetricsEvery <= 0 {
		config.MetricsEvery = time.Minute
	}
	var instance [16]byte
	rand.Read(instance[:])
	t := &Telemetry{config: config, began: time.Now(), client: newClient()}
	t.table = newTable(config.Scheme)
	t.resource = []attribute{
		{key: "service.name", text: config.ServiceName},
		{key: "service.version", text: config.ServiceVersion},
		{key: "service.instance.id", text: hex.EncodeToString(instance[:])},
	}
	for _, a := range config.Attributes {
		t.resource = append(t.resource, attribute{key: a[0], text: a[1]})
	}
	for code := range t.status {
		t.status[code] = strconv.Itoa(code)
	}
	if config.Endpoint != "" && config.SampleRatio > 0 {
		t.spans = make(chan *recorded, maxQueued)
	}
	return t
}

// OnCollect adds a function that sets gauges. It is called before metrics are read, at most once in
// collectEvery, and has collectTimeout.
func (t *Telemetry) OnCollect(collect func(context.Context)) {
	if t == nil {
		return
	}
	t.collecting.Lock()
	defer t.collecting.Unlock()
	t.collectors = append(t.collectors, collect)
}

const (
	collectEvery   = 5 * time.Second
	collectTimeout = 2 * time.Second
)

// collect calls the functions of OnCollect.
func (t *Telemetry) collect(ctx context.Context) {
	t.collecting.Lock()
	defer t.collecting.Unlock()
	if !t.collected.IsZero() && time.Since(t.collected) < collectEvery {
		return
	}
	t.collected = time.Now()
	ctx, cancel := context.WithTimeout(ctx, collectTimeout)
	defer cancel()
	t.measureProcess()
	for _, collect := range t.collectors {
		collect(ctx)
	}
}

// statusText returns a status code as text without allocating.
func (t *Telemetry) statusText(code int) string {
	if code < 0 || code >= len(t.status) {
		return Other
	}
	return t.status[code]
}

// Of returns the Telemetry of a logger; nil if it has none.
func Of(logger *slog.Logger) *Telemetry {
	if h, ok := logger.Handler().(*logHandler); ok {
		return h.telemetry
	}
	return nil
}

package telemetry

import (
	"context"
	"errors"
	"math"
	"runtime/metrics"
	"time"
)

// table has the metrics of this server. Names, units and labels are those of the semantic conventions
// of OpenTelemetry, where they have some; the others begin with "valetkey.".
type table struct {
	all []*metric

	requests, active, sent                  *metric
	operations, connections, commits        *metric
	refusals, events, signIns, signatures   *metric
	signatureFailures                       *metric
	hashesRunning, hashesWaiting            *metric
	outboxSize, outboxAge, databaseSize     *metric
	memory, goroutines, dropped, sendFailed *metric
}

// methods are the methods of RFC 9110, RFC 5789 and the QUERY method: every other one is _OTHER.
var methods = []string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"}

// Outcomes of requests.
const (
	OutcomeOK       = "ok"
	OutcomeRefused  = "refused"  // because of its own content
	OutcomeFailed   = "failed"   // because of the server, or of what it depends on
	OutcomeCanceled = "canceled" // the client closed the connection
)

var (
	outcomes = []string{OutcomeOK, OutcomeRefused, OutcomeFailed, OutcomeCanceled}

	// The bounds that the semantic conventions recommend, in seconds.
	httpBounds     = []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}
	databaseBounds = []float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10}

	signatureBounds = []float64{0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.1}
	commitBounds    = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256}
)

func newTable(scheme string) (t table) {
	add := func(kind kind, name, unit, description string, bounds []float64, labels ...label) *metric {
		m := &metric{kind: kind, name: name, unit: unit, description: description, bounds: bounds, labels: labels}
		m.series.Store(&map[values]*series{})
		t.all = append(t.all, m)
		return m
	}
	errorType := label{name: "error.type", allowed: errorTypes}
	system := label{name: "db.system.name", allowed: []string{"sqlite", "postgresql"}}
	outbox := label{name: "valetkey.outbox", allowed: []string{"clients", "users"}}
	queue := label{name: "valetkey.queue", allowed: []string{"shared", "reserved"}}

	t.requests = add(histogram, "http.server.request.duration", "s", "Requests, and how long they took.", httpBounds,
		label{name: "http.request.method", allowed: methods}, label{name: "http.route"}, label{name: "http.response.status_code"},
		label{name: "valetkey.outcome", allowed: outcomes}, label{name: "url.scheme", fixed: scheme})
	t.active = add(upDown, "http.server.active_requests", "{request}", "Requests in progress.", nil,
		label{name: "http.request.method", allowed: methods}, label{name: "url.scheme", fixed: scheme})
	t.sent = add(histogram, "http.client.request.duration", "s", "Requests that the server sent, and how long they took.", httpBounds,
		label{name: "http.request.method", allowed: methods}, label{name: "http.response.status_code"},
		label{name: "valetkey.destination", allowed: []string{DestinationOperator, DestinationOutsider}}, errorType)

	t.operations = add(histogram, "db.client.operation.duration", "s", "Operations of the database, and how long they took.", databaseBounds,
		system, label{name: "db.operation.name"}, errorType)
	t.connections = add(gauge, "db.client.connection.count", "{connection}", "Connections to the database.", nil,
		system, label{name: "db.client.connection.state", allowed: []string{"idle", "used"}})
	t.commits = add(histogram, "valetkey.commit.size", "{operation}", "Commits of tickets, and how many operations of concurrent requests shared them.", commitBounds, system)
	t.databaseSize = add(gauge, "valetkey.database.size", "By", "The size of the database.", nil, system)

	t.refusals = add(counter, "valetkey.refusals", "{request}", "Requests that broke a rule, by the rule.", nil, label{name: "valetkey.rule"})
	t.events = add(counter, "valetkey.events", "{event}", "Events for the security team, also those that the log omits.", nil, label{name: "valetkey.event"})
	t.signIns = add(counter, "valetkey.sign_ins", "{sign_in}", "Sign-ins, once for each method that was used.", nil,
		label{name: "valetkey.method"})
	t.signatures = add(histogram, "valetkey.signature.duration", "s", "Signatures of tokens, and how long they took.", signatureBounds, label{name: "valetkey.algorithm"})
	t.signatureFailures = add(counter, "valetkey.signature.failures", "{signature}", "Tokens that could not be signed.", nil, label{name: "valetkey.algorithm"})

	t.hashesRunning = add(gauge, "valetkey.password_hash.running", "{hash}", "Password hashes that are being computed.", nil, queue)
	t.hashesWaiting = add(gauge, "valetkey.password_hash.waiting", "{hash}", "Password hashes that wait for their turn.", nil, queue)
	t.outboxSize = add(gauge, "valetkey.outbox.size", "{message}", "Messages that wait to be delivered.", nil, outbox)
	t.outboxAge = add(gauge, "valetkey.outbox.age", "s", "The age of the oldest message that waits; zero if there is none.", nil, outbox)

	t.memory = add(gauge, "go.memory.used", "By", "Memory that the Go runtime uses.", nil)
	t.goroutines = add(gauge, "go.goroutine.count", "{goroutine}", "Goroutines.", nil)
	t.dropped = add(counter, "valetkey.telemetry.dropped_spans", "{span}", "Spans that were not sent.", nil)
	t.sendFailed = add(counter, "valetkey.telemetry.failures", "{request}", "Attempts to send telemetry that failed.", nil)
	// These are series before the first failure, so that an increase can be seen.
	t.dropped.of(values{})
	t.sendFailed.of(values{})
	return t
}

// The values of error.type.
const (
	errorCanceled    = "canceled"
	errorTimeout     = "timeout"
	errorUnavailable = "unavailable"
)

var errorTypes = []string{errorCanceled, errorTimeout, errorUnavailable}

// errorTypeOf returns the error.type of an error that is not a result.
func errorTypeOf(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, context.Canceled):
		return errorCanceled
	case errors.Is(err, context.DeadlineExceeded):
		return errorTimeout
	}
	return errorUnavailable
}

// Event counts an event. name is from the table of events.
func (t *Telemetry) Event(name string) {
	if t != nil {
		t.events.add(1, values{name})
	}
}

// KnowEvent makes a series for an event that has not happened yet, so that Prometheus sees the first one
// as an increase.
func (t *Telemetry) KnowEvent(name string) {
	if t != nil {
		t.events.of(values{name})
	}
}

// SignedIn counts a sign-in with a method.
func (t *Telemetry) SignedIn(method string) {
	if t != nil {
		t.signIns.add(1, values{method})
	}
}

// Signed counts a signature that began at a time. algorithm is one of the server's algorithms.
func (t *Telemetry) Signed(algorithm string, began time.Time) {
	if t != nil {
		t.signatures.observe(time.Since(began).Seconds(), values{algorithm})
	}
}

// SignatureFailed counts a token that could not be signed.
func (t *Telemetry) SignatureFailed(algorithm string) {
	if t != nil {
		t.signatureFailures.add(1, values{algorithm})
	}
}

// Committed counts a commit of so many operations.
func (t *Telemetry) Committed(system string, operations int) {
	if t != nil {
		t.commits.observe(float64(operations), values{system})
	}
}

// Hashes sets how many password hashes of a queue, "shared" or "reserved", run and wait.
func (t *Telemetry) Hashes(queue string, running, waiting int) {
	if t != nil {
		t.hashesRunning.set(float64(running), values{queue})
		t.hashesWaiting.set(float64(waiting), values{queue})
	}
}

// Outbox sets how many messages wait in an outbox, "clients" or "users", and how old the oldest is. If
// err is not nil, they are unknown.
func (t *Telemetry) Outbox(outbox string, size int, age time.Duration, err error) {
	if t == nil {
		return
	}
	if err != nil {
		t.outboxSize.set(math.NaN(), values{outbox})
		t.outboxAge.set(math.NaN(), values{outbox})
		return
	}
	t.outboxSize.set(float64(size), values{outbox})
	t.outboxAge.set(max(0, age.Seconds()), values{outbox})
}

// DatabaseSize sets the size of the database in bytes. If err is not nil, it is unknown.
func (t *Telemetry) DatabaseSize(system string, bytes int64, err error) {
	if t == nil {
		return
	}
	size := float64(bytes)
	if err != nil {
		size = math.NaN()
	}
	t.databaseSize.set(size, values{system})
}

// Connections sets how many connections to the database there are.
func (t *Telemetry) Connections(system string, used, idle int) {
	if t != nil {
		t.connections.set(float64(used), values{system, "used"})
		t.connections.set(float64(idle), values{system, "idle"})
	}
}

// measureProcess sets the gauges of the Go runtime.
func (t *Telemetry) measureProcess() {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}, {Name: "/sched/goroutines:goroutines"}}
	metrics.Read(samples)
	t.memory.set(float64(samples[0].Value.Uint64()-samples[1].Value.Uint64()), values{})
	t.goroutines.set(float64(samples[2].Value.Uint64()), values{})
}

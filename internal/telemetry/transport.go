package telemetry

import (
	"net/http"
	"time"
)

// Destinations of requests that the server sends: services that the operator configured, and addresses
// that others supplied.
const (
	DestinationOperator = "operator"
	DestinationOutsider = "outsider"
)

// Transport returns a transport that measures the requests of base. Services of the operator receive
// the trace; others learn nothing about it. It returns base if t is nil.
func (t *Telemetry) Transport(base http.RoundTripper, destination string) http.RoundTripper {
	if t == nil {
		return base
	}
	return &transport{base: base, telemetry: t, destination: destination}
}

type transport struct {
	base        http.RoundTripper
	telemetry   *Telemetry
	destination string
}

// RoundTrip implements http.RoundTripper. The span has the host of the request, and neither its path
// nor its query.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	began, parent := time.Now(), SpanOf(r.Context())
	span := parent.child(kindClient)
	if parent == nil { // in the background
		span = &Span{}
		if t.telemetry.start(span, kindClient, began); span.record == nil {
			span = nil
		}
	}
	if from := span; t.destination == DestinationOperator && (from != nil || parent != nil) {
		if from == nil {
			from = parent
		}
		r = r.Clone(r.Context()) // a RoundTripper must not modify the request
		r.Header.Set(headerTraceParent, from.traceParent())
		if state := from.place().state; state != "" {
			r.Header.Set(headerTraceState, state)
		}
	}
	response, err := t.base.RoundTrip(r)
	status, failure := "", errorTypeOf(err)
	if err == nil {
		status = t.telemetry.statusText(response.StatusCode)
	}
	method := Method(r.Method)
	t.telemetry.sent.observe(time.Since(began).Seconds(), values{method, status, t.destination, failure})
	if span != nil {
		failed := err != nil || response.StatusCode >= http.StatusBadRequest
		span.text("http.request.method", method)
		span.text("server.address", r.URL.Hostname())
		if err == nil {
			span.number("http.response.status_code", response.StatusCode)
			if failed {
				failure = status
			}
		}
		span.text("error.type", failure)
		span.end(method, failed)
	}
	return response, err
}

// CloseIdleConnections is for http.Client.CloseIdleConnections.
func (t *transport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

package telemetry

import (
	"context"
	"net/http"
	"slices"
	"time"
)

// Method returns a method, or _OTHER if it is not a standard one.
func Method(method string) string {
	switch method {
	case http.MethodGet:
		return http.MethodGet
	case http.MethodPost:
		return http.MethodPost
	}
	if i := slices.Index(methods, method); i >= 0 {
		return methods[i]
	}
	return Other
}

// StartRequest begins the span s, which is in the memory of the caller, for a request that was received at
// began. The span belongs to the trace that the request names. trusted reports whether a proxy of the
// operator sent the request: then the proxy's decision whether to sample applies. Strangers must not
// decide what is stored. The caller puts s into the context of the request (ContextKey).
func (t *Telemetry) StartRequest(s *Span, r *http.Request, began time.Time, trusted func() bool) {
	if t == nil {
		return
	}
	t.start(s, kindServer, began)
	s.active = t.active.of(values{Method(r.Method)})
	s.active.count.Add(1)
	if sampled, ok := s.continueTrace(r.Header); ok && trusted() {
		s.sample(sampled && t.spans != nil, kindServer)
	}
}

// EndRequest ends the span of a request. route is "" if there is nothing at the path. status is zero if
// no response was written. canceled means that the client has closed the connection.
func (s *Span) EndRequest(r *http.Request, route string, status int, canceled bool) {
	if s == nil || s.telemetry == nil {
		return
	}
	method := Method(r.Method)
	outcome, code, failure := OutcomeOK, s.telemetry.statusText(status), ""
	switch {
	case canceled:
		outcome, code, failure = OutcomeCanceled, "", errorCanceled
	case status >= http.StatusInternalServerError:
		outcome, failure = OutcomeFailed, code
	case status >= http.StatusBadRequest || s.refused:
		outcome = OutcomeRefused
	}
	known := route
	if route == "" {
		route = Other
	}
	s.active.count.Add(-1)
	counted := method
	if status == http.StatusMethodNotAllowed { // otherwise each route would have a series for each method
		counted = Other
	}
	s.telemetry.requests.observe(time.Since(s.began).Seconds(), values{counted, route, code, outcome})
	if s.record == nil {
		return
	}
	name := method
	if known != "" {
		name += " " + known
	}
	s.text("http.request.method", method)
	s.text("url.scheme", s.telemetry.config.Scheme)
	s.text("http.route", known)
	if code != "" {
		s.number("http.response.status_code", status)
	}
	s.text("valetkey.outcome", outcome)
	s.text("error.type", failure)
	s.end(name, outcome == OutcomeFailed)
}

// Refused counts a refused request of the context. rule is the text of a rule, or "" if the request was
// refused without one; code is the error code of RFC 6749 and its extensions.
func (t *Telemetry) Refused(ctx context.Context, rule, code, reference string) {
	if t == nil {
		return
	}
	if rule == "" {
		rule = "(none)"
	}
	t.refusals.add(1, values{rule})
	s := SpanOf(ctx)
	if s == nil {
		return
	}
	s.refused = true
	s.text("valetkey.rule", rule)
	s.text("valetkey.error", code)
	s.text("valetkey.reference", reference)
}

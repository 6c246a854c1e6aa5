package telemetry

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// The kinds of spans (OpenTelemetry: SpanKind).
const (
	kindServer = 2
	kindClient = 3
)

// Span is a part of a trace. The span of a request exists even if it is not sampled, because log
// records name it. Methods of a nil Span do nothing, nor does EndRequest of a zero Span. One goroutine uses it; others may read its IDs.
type Span struct {
	telemetry *Telemetry
	began     time.Time
	record    *recorded // nil if it is not sampled

	// Of a request.
	active  *series // the requests in progress with its method
	refused bool    // it broke a rule

	identified sync.Once
	own        place // see place
}

// place is the place of a span in its trace.
type place struct {
	traceID    [16]byte
	id, parent [8]byte
	state      string // tracestate
}

// place returns the place of s. It is chosen when it is first needed: of most requests, nothing names it.
func (s *Span) place() *place {
	s.identified.Do(func() {
		if s.own.traceID == [16]byte{} {
			fillID(s.own.traceID[:])
		}
		fillID(s.own.id[:])
	})
	return &s.own
}

// recorded is what is sent of a span that is sampled. It is not a part of Span, so that a span that waits
// to be sent does not keep the memory of its request, and the other spans are small.
type recorded struct {
	place
	name         string
	kind         int
	began, ended time.Time
	failed       bool
	attributes   []attribute
}

// attribute is a key with a text, or a number if numeric is set.
type attribute struct {
	key, text string
	number    int64
	numeric   bool
}

type spanKey struct{}

// ContextKey is the key of a *Span in a context.
var ContextKey any = spanKey{}

// SpanOf returns the current span; nil if there is none.
func SpanOf(ctx context.Context) *Span {
	s, _ := ctx.Value(ContextKey).(*Span)
	return s
}

// TraceID returns the ID of the trace in hexadecimal; "" for a nil Span.
func (s *Span) TraceID() string {
	if s == nil {
		return ""
	}
	return hex.EncodeToString(s.place().traceID[:])
}

// spanID returns the ID of the span in hexadecimal.
func (s *Span) spanID() string { return hex.EncodeToString(s.place().id[:]) }

// text adds an attribute. value must not be a secret.
func (s *Span) text(key, value string) {
	if s != nil && s.record != nil && value != "" {
		s.record.attributes = append(s.record.attributes, attribute{key: key, text: value})
	}
}

func (s *Span) number(key string, value int) {
	if s != nil && s.record != nil {
		s.record.attributes = append(s.record.attributes, attribute{key: key, number: int64(value), numeric: true})
	}
}

// start makes s a span that belongs to no other.
func (t *Telemetry) start(s *Span, kind int, began time.Time) {
	s.telemetry, s.began = t, began
	s.sample(t.sample(), kind)
}

// sample decides whether s is sampled.
func (s *Span) sample(sampled bool, kind int) {
	s.record = nil
	if sampled {
		s.record = &recorded{kind: kind}
	}
}

// sample decides whether a trace is recorded. It does not depend on the ID of the trace, which may have
// been chosen by a stranger.
func (t *Telemetry) sample() bool {
	return t.spans != nil && (t.config.SampleRatio >= 1 || rand.Float64() < t.config.SampleRatio)
}

// child returns a new span below s; nil if s is not sampled.
func (s *Span) child(kind int) *Span {
	if s == nil || s.record == nil {
		return nil
	}
	above := s.place()
	return &Span{
		telemetry: s.telemetry, began: time.Now(), record: &recorded{kind: kind},
		own: place{traceID: above.traceID, parent: above.id, state: above.state},
	}
}

// end sends the span, if it is sampled. If too many wait to be sent, it is dropped.
func (s *Span) end(name string, failed bool) {
	if s == nil || s.record == nil {
		return
	}
	r := s.record
	r.place, r.began, r.ended, r.name, r.failed = *s.place(), s.began, time.Now(), name, failed
	select {
	case s.telemetry.spans <- r:
	default:
		s.telemetry.dropped.add(1, values{})
	}
}

// fillID sets a random ID, which is not zero. IDs need not be secret.
func fillID(id []byte) {
	for i := 0; i < len(id); i += 8 {
		binary.LittleEndian.PutUint64(id[i:], rand.Uint64()|1)
	}
}

const (
	headerTraceParent = "Traceparent"
	headerTraceState  = "Tracestate"
	maxTraceState     = 512
)

// continueTrace makes s a part of the trace that a request names (W3C Trace Context). It reports false
// if the request names none. sampled is the flag of the sender.
func (s *Span) continueTrace(h http.Header) (sampled, ok bool) {
	parents := h[headerTraceParent]
	if len(parents) != 1 {
		return false, false
	}
	traceID, parent, flags, ok := parseTraceParent(parents[0])
	if !ok {
		return false, false
	}
	s.own.traceID, s.own.parent = traceID, parent
	if states := h[headerTraceState]; len(states) == 1 && printableASCII(states[0]) && len(states[0]) <= maxTraceState {
		s.own.state = states[0]
	}
	return flags&1 != 0, true
}

// parseTraceParent reads version-traceid-parentid-flags (W3C Trace Context, section 3.2). A higher
// version may have more fields.
func parseTraceParent(h string) (traceID [16]byte, parent [8]byte, flags byte, ok bool) {
	const length = 55
	if len(h) < length || h[2] != '-' || h[35] != '-' || h[52] != '-' {
		return traceID, parent, 0, false
	}
	var version, flag [1]byte
	for _, part := range []struct {
		to   []byte
		from string
	}{{version[:], h[:2]}, {traceID[:], h[3:35]}, {parent[:], h[36:52]}, {flag[:], h[53:55]}} {
		if !lowerHex(part.from) {
			return traceID, parent, 0, false
		}
		hex.Decode(part.to, []byte(part.from))
	}
	switch {
	case version[0] == 0xff, version[0] == 0 && len(h) != length, len(h) > length && h[length] != '-':
		return traceID, parent, 0, false
	case traceID == [16]byte{}, parent == [8]byte{}:
		return traceID, parent, 0, false
	}
	return traceID, parent, flag[0], true
}

func lowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func printableASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// traceParent returns the header for a request that belongs to the span.
func (s *Span) traceParent() string {
	flags := "00"
	if s.record != nil {
		flags = "01"
	}
	return "00-" + s.TraceID() + "-" + s.spanID() + "-" + flags
}

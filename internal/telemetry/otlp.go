package telemetry

import (
	"encoding/binary"
	"math"
	"time"
)

// The messages of OTLP 1.x, with the numbers of their fields in opentelemetry-proto.

const (
	scopeName = "github.com/valetkey/valetkey"
	// cumulative is AGGREGATION_TEMPORALITY_CUMULATIVE.
	cumulative = 2
	// statusError is STATUS_CODE_ERROR.
	statusError = 2
)

// encodeSpans returns an ExportTraceServiceRequest.
func (t *Telemetry) encodeSpans(spans []*recorded) []byte {
	e := &encoder{}
	e.message(1, func() { // resource_spans
		t.encodeResource(e)
		e.message(2, func() { // scope_spans
			t.encodeScope(e)
			for _, s := range spans {
				e.message(2, func() { s.encode(e) })
			}
		})
	})
	return e.b
}

func (s *recorded) encode(e *encoder) {
	e.bytes(1, s.traceID[:])
	e.bytes(2, s.id[:])
	if s.parent != [8]byte{} {
		e.bytes(4, s.parent[:])
	}
	e.text(5, s.name)
	e.varint(6, uint64(s.kind))
	e.fixed64(7, nanoseconds(s.began))
	e.fixed64(8, nanoseconds(s.ended))
	encodeAttributes(e, 9, s.attributes)
	if s.failed {
		e.message(15, func() { e.varint(3, statusError) })
	}
	e.fixed32(16, 1) // flags: sampled
}

// encodeMetrics returns an ExportMetricsServiceRequest.
func (t *Telemetry) encodeMetrics(now time.Time) []byte {
	e := &encoder{}
	e.message(1, func() { // resource_metrics
		t.encodeResource(e)
		e.message(2, func() { // scope_metrics
			t.encodeScope(e)
			for _, m := range t.all {
				if points := m.points(); len(points) > 0 {
					e.message(2, func() { m.encode(e, points, t.began, now) })
				}
			}
		})
	})
	return e.b
}

func (m *metric) encode(e *encoder, points []point, began, now time.Time) {
	e.text(1, m.name)
	e.text(2, m.description)
	e.text(3, m.unit)
	switch m.kind {
	case gauge:
		e.message(5, func() {
			for _, p := range points {
				e.message(1, func() {
					encodeTimes(e, time.Time{}, now)
					e.double(4, p.value)
					encodeLabels(e, 7, p.labels)
				})
			}
		})
	case counter, upDown:
		e.message(7, func() {
			for _, p := range points {
				e.message(1, func() {
					encodeTimes(e, began, now)
					e.fixed64(6, uint64(p.count))
					encodeLabels(e, 7, p.labels)
				})
			}
			e.varint(2, cumulative)
			if m.kind == counter {
				e.varint(3, 1) // is_monotonic
			}
		})
	case histogram:
		e.message(9, func() {
			for _, p := range points {
				e.message(1, func() { m.encodeHistogram(e, p, began, now) })
			}
			e.varint(2, cumulative)
		})
	}
}

func (m *metric) encodeHistogram(e *encoder, p point, began, now time.Time) {
	encodeTimes(e, began, now)
	e.fixed64(4, p.total)
	e.double(5, p.value)
	var packed []byte
	for _, n := range p.buckets {
		packed = binary.LittleEndian.AppendUint64(packed, n)
	}
	e.bytes(6, packed)
	packed = packed[:0]
	for _, bound := range m.bounds {
		packed = binary.LittleEndian.AppendUint64(packed, math.Float64bits(bound))
	}
	e.bytes(7, packed)
	encodeLabels(e, 9, p.labels)
}

func encodeTimes(e *encoder, began, now time.Time) {
	if !began.IsZero() {
		e.fixed64(2, nanoseconds(began))
	}
	e.fixed64(3, nanoseconds(now))
}

func (t *Telemetry) encodeResource(e *encoder) {
	e.message(1, func() { encodeAttributes(e, 1, t.resource) })
}

func (t *Telemetry) encodeScope(e *encoder) {
	e.message(1, func() {
		e.text(1, scopeName)
		e.text(2, t.config.ServiceVersion)
	})
}

func encodeAttributes(e *encoder, field int, attributes []attribute) {
	for _, a := range attributes {
		e.message(field, func() {
			e.text(1, a.key)
			e.message(2, func() {
				if a.numeric {
					e.varint(3, uint64(a.number))
				} else {
					e.text(1, a.text)
				}
			})
		})
	}
}

func encodeLabels(e *encoder, field int, labels [][2]string) {
	for _, l := range labels {
		encodeAttributes(e, field, []attribute{{key: l[0], text: l[1]}})
	}
}

func nanoseconds(t time.Time) uint64 { return uint64(t.UnixNano()) }

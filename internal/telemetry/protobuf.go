package telemetry

import (
	"encoding/binary"
	"math"
	"strings"
)

// encoder writes the wire format of Protocol Buffers. The exporters of OpenTelemetry would bring gRPC
// (docs/decisions/0040).
type encoder struct{ b []byte }

// The wire types.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

func (e *encoder) tag(field, wire int) {
	e.b = binary.AppendUvarint(e.b, uint64(field)<<3|uint64(wire))
}

func (e *encoder) varint(field int, v uint64) {
	e.tag(field, wireVarint)
	e.b = binary.AppendUvarint(e.b, v)
}

func (e *encoder) fixed64(field int, v uint64) {
	e.tag(field, wireFixed64)
	e.b = binary.LittleEndian.AppendUint64(e.b, v)
}

func (e *encoder) fixed32(field int, v uint32) {
	e.tag(field, wireFixed32)
	e.b = binary.LittleEndian.AppendUint32(e.b, v)
}

func (e *encoder) double(field int, v float64) { e.fixed64(field, math.Float64bits(v)) }

func (e *encoder) bytes(field int, v []byte) {
	e.tag(field, wireBytes)
	e.b = binary.AppendUvarint(e.b, uint64(len(v)))
	e.b = append(e.b, v...)
}

// text writes a string, which must be valid UTF-8.
func (e *encoder) text(field int, v string) {
	v = strings.ToValidUTF8(v, "\uFFFD")
	e.tag(field, wireBytes)
	e.b = binary.AppendUvarint(e.b, uint64(len(v)))
	e.b = append(e.b, v...)
}

// message writes what f writes as an embedded message.
func (e *encoder) message(field int, f func()) {
	outer := e.b
	e.b = nil
	f()
	inner := e.b
	e.b = outer
	e.bytes(field, inner)
}

package telemetry

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// contentTypePrometheus is the type of the text format of Prometheus.
const contentTypePrometheus = "text/plain; version=0.0.4; charset=utf-8"

// prometheus returns all metrics in the text format of Prometheus. Names are translated as
// OpenTelemetry specifies: dots become underscores, and the unit is a suffix.
func (t *Telemetry) prometheus() []byte {
	var b bytes.Buffer
	b.WriteString("# HELP target_info The server.\n# TYPE target_info gauge\ntarget_info")
	var resource [][2]string
	for _, a := range t.resource {
		resource = append(resource, [2]string{a.key, a.text})
	}
	writeLabels(&b, resource)
	b.WriteString(" 1\n")
	for _, m := range slices.SortedFunc(slices.Values(t.all), func(a, b *metric) int { return cmp.Compare(a.name, b.name) }) {
		m.writePrometheus(&b)
	}
	return b.Bytes()
}

func (m *metric) writePrometheus(b *bytes.Buffer) {
	points := m.points()
	if len(points) == 0 {
		return
	}
	name, kind := prometheusName(m), "gauge"
	switch m.kind {
	case counter:
		kind = "counter"
	case histogram:
		kind = "histogram"
	}
	fmt.Fprintf(b, "# HELP %s %s\n# TYPE %s %s\n", name, m.description, name, kind)
	for _, p := range points {
		switch m.kind {
		case histogram:
			sum := uint64(0)
			for i, n := range p.buckets {
				sum += n
				bound := math.Inf(1)
				if i < len(m.bounds) {
					bound = m.bounds[i]
				}
				b.WriteString(name + "_bucket")
				writeLabels(b, append(slices.Clip(p.labels), [2]string{"le", float(bound)}))
				fmt.Fprintf(b, " %d\n", sum)
			}
			b.WriteString(name + "_sum")
			writeLabels(b, p.labels)
			b.WriteString(" " + float(p.value) + "\n" + name + "_count")
			writeLabels(b, p.labels)
			fmt.Fprintf(b, " %d\n", p.total)
		case gauge:
			b.WriteString(name)
			writeLabels(b, p.labels)
			b.WriteString(" " + float(p.value) + "\n")
		default:
			b.WriteString(name)
			writeLabels(b, p.labels)
			fmt.Fprintf(b, " %d\n", p.count)
		}
	}
}

func prometheusName(m *metric) string {
	name := underscores(m.name)
	switch m.unit {
	case "s":
		name += "_seconds"
	case "By":
		name += "_bytes"
	}
	if m.kind == counter {
		name += "_total"
	}
	return name
}

// underscores replaces what names of metrics and labels must not have.
func underscores(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, name)
}

var labelEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func writeLabels(b *bytes.Buffer, labels [][2]string) {
	if len(labels) == 0 {
		return
	}
	for i, l := range labels {
		b.WriteByte("{,"[min(i, 1)])
		b.WriteString(underscores(l[0]) + `="` + labelEscapes.Replace(strings.ToValidUTF8(l[1], "\uFFFD")) + `"`)
	}
	b.WriteByte('}')
}

func float(f float64) string {
	if math.IsInf(f, 1) {
		return "+Inf"
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

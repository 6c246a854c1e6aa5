package telemetry

import (
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
)

// kind is a kind of metric.
type kind int

const (
	counter   kind = iota // grows
	gauge                 // a value that is set
	upDown                // a value that is added to
	histogram             // the distribution of values
)

// metric is one metric with all its series. It is safe for concurrent use.
type metric struct {
	name, unit, description string
	kind                    kind
	labels                  []label
	bounds                  []float64 // of a histogram: the upper bounds of its buckets, except the last

	adding sync.Mutex
	series atomic.Pointer[map[values]*series] // replaced, never changed
	// recent has some of the series at the slots of their values, where they are found with less work and
	// in less memory than in the map: usually, the processor's cache has been used for something else
	// between two requests.
	recent [slots]atomic.Pointer[series]
}

const slots = 64

// slot is a number below slots. Values of one length share it.
func (v *values) slot() int {
	n := 0
	for i := range v {
		n = n*7 + len(v[i])
	}
	return n % slots
}

// label is a label (OpenTelemetry: attribute) of a metric.
type label struct {
	name string
	// allowed are its values; any other becomes Other. If it is nil, the values come from tables in the
	// program.
	allowed []string
	// fixed is the only value, if it is not "".
	fixed string
}

const (
	// Other is the value of a label for everything that is not in its set.
	Other = "_OTHER"
	// maxSeries limits the series of a metric, in case that a label has values that it must not have.
	maxSeries = 4000
	maxLabels = 5
)

// values are the values of the labels of a series, in their order. "" means that there is none.
type values [maxLabels]string

// series is one combination of values. Only the fields of its kind are used.
type series struct {
	values  values
	count   atomic.Int64    // of a counter, or an upDown
	bits    atomic.Uint64   // of a gauge: the value; of a histogram: the sum
	buckets []atomic.Uint64 // of a histogram: how many values are in each
}

// of returns the series with the values. It allocates nothing if the series exists.
func (m *metric) of(v values) *series {
	recent := &m.recent[v.slot()]
	if s := recent.Load(); s != nil && s.values == v {
		return s
	}
	s := m.find(v)
	if s.values == v {
		recent.CompareAndSwap(nil, s)
	}
	return s
}

// find returns the series with the values from the map.
func (m *metric) find(v values) *series {
	if s := (*m.series.Load())[v]; s != nil {
		return s
	}
	for i, l := range m.labels {
		if v[i] != "" && l.allowed != nil && !slices.Contains(l.allowed, v[i]) {
			v[i] = Other
		}
	}
	if s := (*m.series.Load())[v]; s != nil {
		return s
	}
	m.adding.Lock()
	defer m.adding.Unlock()
	all := *m.series.Load()
	if s := all[v]; s != nil {
		return s
	}
	if len(all) >= maxSeries {
		v = values{}
		for i := range m.labels {
			v[i] = Other
		}
		if s := all[v]; s != nil {
			return s
		}
	}
	s := &series{values: v}
	if m.kind == histogram {
		s.buckets = make([]atomic.Uint64, len(m.bounds)+1)
	}
	if m.kind == gauge {
		s.bits.Store(math.Float64bits(math.NaN()))
	}
	all = maps.Clone(all)
	all[s.values] = s
	m.series.Store(&all)
	return s
}

// add adds to a counter or an upDown.
func (m *metric) add(n int64, v values) { m.of(v).count.Add(n) }

// set sets a gauge. NaN means that there is no value.
func (m *metric) set(to float64, v values) { m.of(v).bits.Store(math.Float64bits(to)) }

// observe adds a value to a histogram.
func (m *metric) observe(value float64, v values) {
	s := m.of(v)
	i := 0
	for i < len(m.bounds) && value > m.bounds[i] {
		i++
	}
	s.buckets[i].Add(1)
	for {
		before := s.bits.Load()
		if s.bits.CompareAndSwap(before, math.Float64bits(math.Float64frombits(before)+value)) {
			return
		}
	}
}

// point is the state of a series at one moment.
type point struct {
	labels  [][2]string // without empty ones
	count   int64
	value   float64 // of a gauge; of a histogram: the sum
	buckets []uint64
	total   uint64 // of the buckets
}

// points returns the series in the order of their values.
func (m *metric) points() (all []point) {
	bySeries := *m.series.Load()
	for _, v := range slices.SortedFunc(maps.Keys(bySeries), func(a, b values) int { return slices.Compare(a[:], b[:]) }) {
		s := bySeries[v]
		p := point{count: s.count.Load(), value: math.Float64frombits(s.bits.Load())}
		if m.kind == gauge && math.IsNaN(p.value) {
			continue
		}
		for i := range s.buckets {
			n := s.buckets[i].Load()
			p.buckets, p.total = append(p.buckets, n), p.total+n
		}
		for i, l := range m.labels {
			if value := v[i]; value != "" {
				p.labels = append(p.labels, [2]string{l.name, value})
			} else if l.fixed != "" {
				p.labels = append(p.labels, [2]string{l.name, l.fixed})
			}
		}
		all = append(all, p)
	}
	return all
}

package event

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/valetkey/valetkey/internal/ratelimit"
)

// Limits for sampled events: a flood must neither fill the disk nor hide other events. The first
// limit is for one event and address, the second for one event.
var (
	perAddress = ratelimit.PerMinute(30)
	perKind    = ratelimit.PerMinute(1200)
)

const (
	// leftOutEvery is how often the number of omitted records is logged.
	leftOutEvery = time.Minute
	// maxAddresses is the number of addresses that are counted separately.
	maxAddresses = 1000
)

// sample decides which records of sampled kinds are written, and counts the others.
type sample struct {
	addresses, kinds *ratelimit.Limiter

	mu      sync.Mutex
	leftOut map[string]*leftOut // by event
	timer   *time.Timer
}

// leftOut counts omitted records of one event.
type leftOut struct {
	count     int
	addresses map[string]int
}

func (s *sample) init() {
	s.addresses = ratelimit.New(ratelimit.Config{Limit: perAddress, Name: "records of an address", Capacity: 20_000})
	s.kinds = ratelimit.New(ratelimit.Config{Limit: perKind, Name: "records"})
	s.leftOut = map[string]*leftOut{}
}

// take reports whether to write a record.
func (s *sample) take(l *Log, kind *Kind, address string) bool {
	network := address
	if parsed, err := netip.ParseAddr(address); err == nil {
		network = ratelimit.Network(parsed)
	}
	now := time.Now()
	if s.addresses.Take(now, ratelimit.NewKey(kind.Name, network)) == 0 && s.kinds.Take(now, ratelimit.NewKey(kind.Name)) == 0 {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	left := s.leftOut[kind.Name]
	if left == nil {
		left = &leftOut{addresses: map[string]int{}}
		s.leftOut[kind.Name] = left
	}
	left.count++
	if _, counted := left.addresses[network]; counted || len(left.addresses) < maxAddresses {
		left.addresses[network]++
	}
	if s.timer == nil {
		s.timer = time.AfterFunc(leftOutEvery, l.logLeftOut)
	}
	return false
}

// logLeftOut logs how many records were omitted since the last time.
func (l *Log) logLeftOut() {
	s := &l.sample
	s.mu.Lock()
	all := s.leftOut
	s.leftOut, s.timer = map[string]*leftOut{}, nil
	s.mu.Unlock()
	for _, kind := range Kinds {
		left := all[kind.Name]
		if left == nil {
			continue
		}
		most := ""
		for address, count := range left.addresses {
			if most == "" || count > left.addresses[most] {
				most = address
			}
		}
		l.Record(context.Background(), RecordsLeftOut, slog.String("left_out", kind.Name), slog.Int("count", left.count),
			slog.Int("addresses", len(left.addresses)), slog.String(keyAddress, most), slog.Int("address_count", left.addresses[most]))
	}
}

// Close logs how many records were omitted, if that is not logged yet.
func (l *Log) Close() {
	l.sample.mu.Lock()
	if l.sample.timer != nil {
		l.sample.timer.Stop()
	}
	l.sample.mu.Unlock()
	l.logLeftOut()
}

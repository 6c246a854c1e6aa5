package authserver

import (
	"net/netip"
	"sync"
	"time"
)

// addressLimiter counts events by address (IPv6: by /64) and says when there were too
// many: failed client authentications, so that secrets cannot be guessed at speed, and
// interactions, so that nobody fills the store. It is memory of this node alone, bounded,
// and forgets after a minute.
type addressLimiter struct {
	perMinute int

	mu      sync.Mutex
	since   time.Time
	counts  map[netip.Prefix]int
	blocked int // addresses at the limit, to keep the usual path cheap
}

const (
	failuresPerMinute     = 60
	interactionsPerMinute = 600
	maxLimiterEntries     = 10_000
)

func addressKey(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	prefix, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}

func (l *addressLimiter) allowed(a netip.Addr, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.blocked == 0 {
		return true
	}
	l.roll(now)
	return l.counts[addressKey(a)] < l.perMinute
}

func (l *addressLimiter) add(a netip.Addr, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.roll(now)
	key := addressKey(a)
	if l.counts[key]++; l.counts[key] == l.perMinute {
		l.blocked++
	}
}

func (l *addressLimiter) roll(now time.Time) {
	if l.counts == nil || now.Sub(l.since) >= time.Minute || len(l.counts) >= maxLimiterEntries {
		l.since, l.counts, l.blocked = now, make(map[netip.Prefix]int), 0
	}
}

// Package ratelimit counts events by key, such as wrong passwords by account, and reports when
// there are too many. All rate limits of the server use it.
//
// A limit allows a burst of events and then one event per interval: the generic cell rate
// algorithm. The state of a key is a single time, at which all its events are forgotten, so the
// states of several nodes can be added up in a database (Config.Counts).
package ratelimit

import (
	"container/heap"
	"log/slog"
	"sync"
	"time"

	"github.com/valetkey/valetkey/storage"
)

// Limit allows Burst events at once, and then one event per Every.
type Limit struct {
	Burst int
	Every time.Duration
}

// PerMinute allows n events at once and n per minute.
func PerMinute(n int) Limit { return Limit{Burst: n, Every: time.Minute / time.Duration(max(n, 1))} }

// DefaultCapacity is how many keys a Limiter counts by default. They take about 20 MB.
const DefaultCapacity = 100_000

// Config configures a Limiter.
type Config struct {
	Limit
	// Name separates the keys of this limiter from those of others in the same Counts.
	Name string
	// Capacity is the maximum number of keys; zero means DefaultCapacity.
	Capacity int
	// Counts adds up the events of all nodes. If it is nil, only this process counts.
	Counts storage.Counts
	// Logger gets a warning when Counts fails; nil means slog.Default().
	Logger *slog.Logger
}

// EventStoreFailed is the "event" attribute of the warning that Counts failed.
const EventStoreFailed = "rate_limit.store_failed"

// Limiter counts events by key. It is safe for concurrent use.
//
// Its memory is bounded. When it is full, a new key replaces the key whose events would be
// forgotten soonest. To evict a key, an attacker must cause as many events for each of Capacity
// other keys, which is more than the limit prevents. No event is refused because memory is full.
type Limiter struct {
	config Config
	// oneStore is held while counts are being stored.
	oneStore sync.Mutex

	mu      sync.Mutex
	entries map[Key]*entry
	soonest byUntil
	shared  shared
}

// entry is the state of a key.
type entry struct {
	key   Key
	until time.Time // when all of its events are forgotten
	index int       // in Limiter.soonest
}

// New returns a limiter without events.
func New(config Config) *Limiter {
	if config.Capacity <= 0 {
		config.Capacity = DefaultCapacity
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	config.Burst, config.Every = max(config.Burst, 1), max(config.Every, 1)
	return &Limiter{config: config, entries: make(map[Key]*entry)}
}

// Take counts an event and returns zero. If the limit is exceeded, it counts nothing and returns
// how long to wait until the next event is allowed.
func (l *Limiter) Take(now time.Time, key Key) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[key]
	if e == nil {
		e = l.insert(now, key)
	}
	if wait := l.wait(now, e); wait > 0 {
		return wait
	}
	l.add(now, e, 1)
	return 0
}

// Wait returns how long to wait until the next event is allowed; zero if it is allowed now.
func (l *Limiter) Wait(now time.Time, key Key) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.entries[key]; e != nil {
		return l.wait(now, e)
	}
	return 0
}

// Used returns how many events of a key are counted.
func (l *Limiter) Used(now time.Time, key Key) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[key]
	if e == nil || !e.until.After(now) {
		return 0
	}
	return int((e.until.Sub(now) + l.config.Every - 1) / l.config.Every)
}

// Undo takes back one event that Take counted.
func (l *Limiter) Undo(now time.Time, key Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.entries[key]; e != nil {
		l.add(now, e, -1)
	}
}

// Forget takes back every event of a key.
func (l *Limiter) Forget(now time.Time, key Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[key]
	if e == nil {
		return
	}
	l.forgetShared(now, e)
	e.until = now
	heap.Fix(&l.soonest, e.index)
}

// wait is like Wait, for an entry.
func (l *Limiter) wait(now time.Time, e *entry) time.Duration {
	allowed := now.Add(time.Duration(l.config.Burst-1) * l.config.Every)
	return max(0, e.until.Sub(allowed))
}

func (l *Limiter) add(now time.Time, e *entry, events int) {
	if e.until.Before(now) {
		e.until = now
	}
	e.until = e.until.Add(time.Duration(events) * l.config.Every)
	heap.Fix(&l.soonest, e.index)
	l.addShared(now, e.key, events)
}

// insert adds an entry. It removes expired entries first and, if the limiter is full, the one
// that expires soonest.
func (l *Limiter) insert(now time.Time, key Key) *entry {
	for len(l.soonest) > 0 && (len(l.soonest) >= l.config.Capacity || !l.soonest[0].until.After(now)) {
		gone := heap.Pop(&l.soonest).(*entry)
		delete(l.entries, gone.key)
	}
	e := &entry{key: key, until: now}
	l.entries[key] = e
	heap.Push(&l.soonest, e)
	return e
}

// byUntil is a heap of entries, the one that is forgotten soonest first.
type byUntil []*entry

func (h byUntil) Len() int           { return len(h) }
func (h byUntil) Less(i, j int) bool { return h[i].until.Before(h[j].until) }
func (h byUntil) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *byUntil) Push(x any) {
	e := x.(*entry)
	e.index = len(*h)
	*h = append(*h, e)
}

// Pop implements heap.Interface.
func (h *byUntil) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return e
}

// Package ratelimit counts events by key, such as wrong passwords by account, and says when
// there were too many. It is the only rate limit of the server.
//
// A limit allows a burst of events and then one event each interval: the generic cell rate
// algorithm. The state of a key is one time, until which its events count, so that states of
// several nodes can be added up in a database (Config.Counts).
package ratelimit

import (
	"container/heap"
	"log/slog"
	"sync"
	"time"

	"github.com/valetkey/valetkey/storage"
)

// Limit is how many events are allowed: Burst at once, and then one each Every.
type Limit struct {
	Burst int
	Every time.Duration
}

// PerMinute allows n events at once and n in a minute.
func PerMinute(n int) Limit { return Limit{Burst: n, Every: time.Minute / time.Duration(max(n, 1))} }

// DefaultCapacity is how many keys a Limiter counts. They take about 20 MB.
const DefaultCapacity = 100_000

// Config says what a Limiter counts.
type Config struct {
	Limit
	// Name tells the keys of this limiter from those of others in the same Counts.
	Name string
	// Capacity is how many keys are counted at most; zero means DefaultCapacity.
	Capacity int
	// Counts adds up the events of all nodes; nil: this process counts for itself.
	Counts storage.Counts
	// Logger hears when Counts fails; nil means slog.Default().
	Logger *slog.Logger
}

// EventStoreFailed is the member "event" of the record that says that Counts failed.
const EventStoreFailed = "rate_limit.store_failed"

// Limiter counts events by key. It is safe for concurrent use.
//
// Its memory is bounded. When a key comes that there is no room for, the key whose events
// are forgotten soonest goes. To have a key forgotten early, an attacker must make as many
// events for each of Capacity other keys, which is more than the limit denies. Nothing is
// refused for lack of room.
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
	until time.Time // all of its events are forgotten then
	index int       // in Limiter.soonest
}

// New returns a limiter that has counted nothing.
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

// Take counts an event and returns zero; or it counts nothing and returns how long to wait
// until the next event is allowed.
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

// Wait returns how long to wait until the next event is allowed, zero if it is allowed now.
func (l *Limiter) Wait(now time.Time, key Key) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.entries[key]; e != nil {
		return l.wait(now, e)
	}
	return 0
}

// Used returns how many events of a key count.
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

// wait is Wait for an entry.
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

// insert makes room by what is forgotten already, or else soonest.
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

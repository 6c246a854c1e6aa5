package outgoing

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Cache keeps what was read from documents, by URL. A copy that is no longer fresh is
// returned at once while one goroutine fetches the next one (RFC 5861, section 3), and the
// last good copy outlives fetches that fail (section 4). Set the exported fields before the
// first call. It is safe for concurrent use.
type Cache[V any] struct {
	// Load fetches a document, and says how many bytes its value takes in memory.
	Load func(ctx context.Context, address string) (value V, bytes int, err error)
	// Fresh is how long a copy is not fetched again; Serve how old it may be to be returned
	// while the next one is fetched; Keep how old it may be if there is no next one.
	Fresh, Serve, Keep time.Duration
	// Rest is the least time between two fetches of one URL, and Retry that after a failure
	// where there is no copy.
	Rest, Retry time.Duration
	// MaxBytes bounds all copies together. What was used least recently goes first, and
	// failures before copies.
	MaxBytes int

	fetches sync.WaitGroup
	mu      sync.Mutex
	entries map[string]*entry[V]
	bytes   int
}

// entry is one URL. Its fields are guarded by Cache.mu.
type entry[V any] struct {
	value    V
	bytes    int
	fetched  time.Time     // when the value came; zero: there is none
	tried    time.Time     // when the last fetch began
	used     time.Time     // when a caller last asked
	fetching chan struct{} // closed when the fetch that is under way ends; nil if there is none
	failure  error         // of the last fetch
}

// entryBytes is what an entry takes besides its value and its URL.
const entryBytes = 512

// Get returns what the document at a URL says. With again, the caller has a reason to believe
// that the copy is outdated, and waits for a new one, unless one was fetched within Rest. An
// error says that there is no copy that may be used.
func (c *Cache[V]) Get(ctx context.Context, address string, again bool) (V, error) {
	now := time.Now()
	c.mu.Lock()
	e := c.entries[address]
	if e == nil {
		e = &entry[V]{bytes: entryBytes + len(address)}
		c.keep(address, e, now)
	}
	e.used = now
	age := now.Sub(e.fetched)
	have := !e.fetched.IsZero() && age < c.Keep
	rest := c.Rest
	if !have {
		rest = c.Retry
	}
	resting := !e.tried.IsZero() && now.Sub(e.tried) < rest
	if e.fetching == nil && !resting && (!have || again || age >= c.Fresh) {
		e.tried, e.fetching = now, make(chan struct{})
		// The caller may go away. What is fetched is for all.
		c.fetches.Go(func() { c.fetch(context.WithoutCancel(ctx), address, e) })
	}
	fetching := e.fetching
	if fetching == nil || have && !again && age < c.Serve {
		defer c.mu.Unlock()
		return e.result(have)
	}
	c.mu.Unlock()
	select {
	case <-fetching:
	case <-ctx.Done():
		var none V
		return none, ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return e.result(!e.fetched.IsZero() && time.Since(e.fetched) < c.Keep)
}

func (e *entry[V]) result(have bool) (V, error) {
	if have {
		return e.value, nil
	}
	var none V
	if e.failure == nil {
		return none, ErrFetch
	}
	return none, e.failure
}

func (c *Cache[V]) fetch(ctx context.Context, address string, e *entry[V]) {
	value, bytes, err := *new(V), 0, errors.New("the fetch panicked")
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if e.failure = err; err == nil {
			e.value, e.fetched = value, time.Now()
			if c.entries[address] == e {
				size := entryBytes + len(address) + bytes
				c.bytes += size - e.bytes
				e.bytes = size
				c.makeRoom(e)
			}
		}
		close(e.fetching)
		e.fetching = nil
	}()
	value, bytes, err = c.Load(ctx, address)
}

// keep adds an entry. The caller holds the lock.
func (c *Cache[V]) keep(address string, e *entry[V], now time.Time) {
	if c.entries == nil {
		c.entries = map[string]*entry[V]{}
	}
	e.used = now
	c.entries[address] = e
	c.bytes += e.bytes
	c.makeRoom(e)
}

// makeRoom removes entries other than e until all fit. The caller holds the lock.
func (c *Cache[V]) makeRoom(e *entry[V]) {
	for c.bytes > c.MaxBytes {
		address, oldest := "", (*entry[V])(nil)
		for other, candidate := range c.entries {
			if candidate == e || candidate.fetching != nil {
				continue
			}
			failed, oldestFailed := candidate.fetched.IsZero(), oldest != nil && oldest.fetched.IsZero()
			if oldest == nil || failed && !oldestFailed || failed == oldestFailed && candidate.used.Before(oldest.used) {
				address, oldest = other, candidate
			}
		}
		if oldest == nil {
			return // the rest is being fetched, which Client bounds
		}
		delete(c.entries, address)
		c.bytes -= oldest.bytes
	}
}

// Wait returns when no fetch is under way.
func (c *Cache[V]) Wait() { c.fetches.Wait() }

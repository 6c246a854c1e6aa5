package outgoing

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Cache keeps the values of documents, by URL. A copy that is no longer fresh is returned at once
// while one goroutine fetches the next one (RFC 5861, section 3), and the last good copy is kept
// when a fetch fails (section 4). Set the exported fields before the first call. It is safe for
// concurrent use.
type Cache[V any] struct {
	// Load fetches a document, and returns how many bytes its value takes in memory.
	Load func(ctx context.Context, address string) (value V, bytes int, err error)
	// Fresh is how long a copy is not fetched again. Serve is how old a copy may be to be returned
	// while the next one is fetched, and Keep how old it may be if fetching the next one fails.
	Fresh, Serve, Keep time.Duration
	// Rest is the minimum time between two fetches of one URL, or Retry if there is no copy after
	// a failure.
	Rest, Retry time.Duration
	// MaxBytes limits all copies together. The least recently used entries are removed first, and
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
	fetched  time.Time     // when the value was fetched; zero if there is none
	tried    time.Time     // when the last fetch began
	used     time.Time     // when Get was last called
	fetching chan struct{} // closed when the current fetch ends; nil if there is none
	failure  error         // of the last fetch
}

// entryBytes is the size of an entry without its value and its URL.
const entryBytes = 512

// Get returns the value of the document at a URL. A caller that has a reason to believe that the
// copy is outdated sets again, and waits for a new copy, unless one was fetched within Rest. An
// error means that there is no usable copy.
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
		// The fetch is for all callers: it continues if this one's request ends.
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
			return // the rest is being fetched, which Client limits
		}
		delete(c.entries, address)
		c.bytes -= oldest.bytes
	}
}

// Wait returns when no fetch is in progress.
func (c *Cache[V]) Wait() { c.fetches.Wait() }

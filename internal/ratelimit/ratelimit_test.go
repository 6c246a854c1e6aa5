package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/storage"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestNetwork(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1":             "192.0.2.1",
		"::ffff:192.0.2.1":      "192.0.2.1",
		"64:ff9b::c000:201":     "192.0.2.1",
		"2001:db8:1:2:3::4":     "2001:db8:1:2::/64",
		"2001:db8:1:2:ffff::":   "2001:db8:1:2::/64",
		"fe80::1%eth0":          "fe80::/64",
		"2001:db8:1:3:ffff::%x": "2001:db8:1:3::/64",
	} {
		if got := Network(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
	if NewKey("a", "bc") == NewKey("ab", "c") || NewKey() == NewKey("") {
		t.Error("different parts have the same key")
	}
}

func TestBurstAndInterval(t *testing.T) {
	l := New(Config{Limit: Limit{Burst: 3, Every: time.Minute}})
	key := NewKey("k")
	for range 3 {
		if wait := l.Take(noon, key); wait != 0 {
			t.Fatalf("within the burst: %v", wait)
		}
	}
	if wait := l.Take(noon, key); wait != time.Minute || l.Wait(noon, key) != wait || l.Used(noon, key) != 3 {
		t.Errorf("after the burst: %v, %d used", wait, l.Used(noon, key))
	}
	if wait := l.Take(noon.Add(90*time.Second), key); wait != 0 {
		t.Errorf("after an interval: %v", wait)
	}
	if wait := l.Take(noon.Add(90*time.Second), key); wait != 30*time.Second {
		t.Errorf("once more: %v, want 30s", wait)
	}
	l.Undo(noon.Add(90*time.Second), key)
	if wait := l.Wait(noon.Add(90*time.Second), key); wait != 0 {
		t.Errorf("after Undo: %v", wait)
	}
	l.Forget(noon.Add(90*time.Second), key)
	if used := l.Used(noon.Add(90*time.Second), key); used != 0 {
		t.Errorf("after Forget: %d", used)
	}
	if l.Wait(noon, NewKey("other")) != 0 {
		t.Error("another key waits")
	}
}

// Memory is bounded. Other keys neither evict a key with more failures, nor cause a refusal.
func TestDS13_MemoryIsBounded(t *testing.T) {
	l := New(Config{Limit: Limit{Burst: 5, Every: time.Minute}, Capacity: 100})
	victim := NewKey("victim")
	for l.Take(noon, victim) == 0 {
	}
	for i := range 10_000 {
		if l.Take(noon, NewKey(fmt.Sprint(i))) != 0 {
			t.Fatal("a new key is refused because memory is full")
		}
	}
	if l.Wait(noon, victim) == 0 {
		t.Error("10,000 other keys evicted a key")
	}
	if len(l.entries) != 100 || len(l.soonest) != 100 {
		t.Errorf("%d entries and %d in the heap, want 100", len(l.entries), len(l.soonest))
	}
	l.Take(noon.Add(time.Hour), NewKey("later"))
	if len(l.entries) != 1 {
		t.Errorf("%d entries after all have expired, want 1", len(l.entries))
	}
}

func TestParallelEventsAreCounted(t *testing.T) {
	l := New(Config{Limit: Limit{Burst: 5, Every: time.Hour}})
	var mu sync.Mutex
	var callers sync.WaitGroup
	passed := 0
	for range 200 {
		callers.Go(func() {
			if l.Take(noon, NewKey("k")) == 0 {
				mu.Lock()
				passed++
				mu.Unlock()
			}
		})
	}
	callers.Wait()
	if passed != 5 {
		t.Errorf("%d passed, want 5", passed)
	}
}

// counts is a store that fails on demand.
type counts struct {
	mu     sync.Mutex
	untils map[storage.CountKey]time.Time
	err    error
	writes int
	// slowRead and slowWrite delay the return after the store has read or written.
	slowRead, slowWrite atomic.Int64
}

func (c *counts) CountedUntil(_ context.Context, _ time.Time, keys ...storage.CountKey) (untils []time.Time, err error) {
	defer func() { time.Sleep(time.Duration(c.slowRead.Load())) }()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range keys {
		untils = append(untils, c.untils[key])
	}
	return untils, c.err
}

func (c *counts) AddCounts(_ context.Context, changes ...storage.Count) error {
	defer func() { time.Sleep(time.Duration(c.slowWrite.Load())) }()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	c.writes++
	for _, change := range changes {
		until := c.untils[change.Key]
		if change.Reset || until.Before(change.At) {
			until = change.At
		}
		c.untils[change.Key] = until.Add(change.Add)
	}
	return nil
}

func (c *counts) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

// A read that overlaps a write of this node's events counts each of them once, whether the store
// executes it before or after the write.
func TestReadWhileEventsAreStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &counts{untils: map[storage.CountKey]time.Time{}}
		l := New(Config{Limit: Limit{Burst: 100, Every: time.Minute}, Name: "n", Counts: store, Logger: slog.New(slog.DiscardHandler)})
		defer l.Close()
		key := NewKey("k")
		for range 10 {
			l.Take(time.Now(), key)
		}
		now := time.Now()
		store.slowRead.Store(int64(2 * time.Second))
		l.Load(t.Context(), now, key)
		store.slowRead.Store(0)
		if used := l.Used(now, key); used != 10 || store.writes != 1 {
			t.Errorf("read before the write: %d used after %d writes, want 10 after 1", used, store.writes)
		}

		l.Take(now, key)
		store.slowWrite.Store(int64(2 * time.Second))
		time.Sleep(storeEvery + time.Second)
		l.Load(t.Context(), now, key)
		if used := l.Used(now, key); used != 11 || store.writes != 2 {
			t.Errorf("read after the write: %d used after %d writes, want 11 after 2", used, store.writes)
		}
		time.Sleep(3 * time.Second)
		l.Load(t.Context(), now, key)
		if used := l.Used(now, key); used != 11 {
			t.Errorf("%d used once everything is stored, want 11", used)
		}
	})
}

func TestNodesShareCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &counts{untils: map[storage.CountKey]time.Time{}}
		node := func() *Limiter {
			return New(Config{Limit: Limit{Burst: 100, Every: time.Minute}, Name: "n", Counts: store, Logger: slog.New(slog.DiscardHandler)})
		}
		a, b := node(), node()
		key := NewKey("k")
		used := func(l *Limiter) int {
			l.Load(t.Context(), time.Now(), key)
			return l.Used(time.Now(), key)
		}
		for range 10 {
			a.Take(time.Now(), key)
			b.Take(time.Now(), key)
		}
		a.Undo(time.Now(), key)
		time.Sleep(2 * time.Second)
		if used(a) != 19 || used(b) != 19 || store.writes != 2 {
			t.Errorf("%d and %d used after %d writes, want 19 and 2 writes", used(a), used(b), store.writes)
		}
		a.Take(time.Now(), key)
		if used(a) != 20 {
			t.Errorf("%d used before the last event is stored, want 20", used(a))
		}

		store.fail(errors.New("gone"))
		b.Take(time.Now(), key)
		if used(b) != 20 {
			t.Errorf("%d used while the store fails, want this node's 20", used(b))
		}
		time.Sleep(3 * time.Second)
		store.fail(nil)
		time.Sleep(6 * time.Second)
		if used(a) != 21 || used(b) != 21 {
			t.Errorf("%d and %d used after the store is back, want 21", used(a), used(b))
		}

		b.Forget(time.Now(), key)
		b.Take(time.Now(), key)
		time.Sleep(2 * time.Second)
		if used(a) != 1 || used(b) != 1 {
			t.Errorf("%d and %d used after one forgot and counted one, want 1", used(a), used(b))
		}

		writes := store.writes
		b.Take(time.Now(), NewKey("right at once"))
		b.Forget(time.Now(), NewKey("right at once"))
		time.Sleep(2 * time.Second)
		if store.writes != writes {
			t.Error("an event that was taken back was written")
		}
		a.Take(time.Now(), key)
		a.Close()
		if used(b) != 2 {
			t.Errorf("%d used after the other node ended, want 2", used(b))
		}
		b.Close()
	})
}

package ratelimit

import (
	"container/heap"
	"context"
	"errors"
	"time"

	"github.com/valetkey/valetkey/storage"
)

const (
	// storeEvery is how long events are collected before they are stored together. Other nodes
	// see them with this delay.
	storeEvery = time.Second
	// storeTimeout limits a read or write of Counts.
	storeTimeout = 2 * time.Second
	// retryEvery is the pause after a failure, and warnEvery the pause between two warnings.
	retryEvery = 5 * time.Second
	warnEvery  = time.Minute
)

// shared is the state of a limiter's exchange with Config.Counts, guarded by Limiter.mu.
type shared struct {
	pending map[Key]change // to be stored
	storing map[Key]change // being stored
	stores  int            // finished writes of storing
	timer   *time.Timer    // stores pending; nil while there is nothing
	closed  bool
	warned  time.Time
}

// change is what happened to a key on this node.
type change struct {
	at    time.Time // of the first event that is not stored
	reset bool      // whether the key was reset first
	added int       // events added after that
}

// apply returns a count after a change.
func (c change) apply(until time.Time, every time.Duration) time.Time {
	if c.reset || until.Before(c.at) {
		until = c.at
	}
	return until.Add(time.Duration(c.added) * every)
}

// Load reads the shared counts of keys. It is called before Take or Wait. If Counts fails, it
// logs a warning and this node's own counts are used: no one is locked out, and the limit still
// applies on each node.
func (l *Limiter) Load(ctx context.Context, now time.Time, keys ...Key) {
	if l.config.Counts == nil {
		return
	}
	stored := make([]storage.CountKey, len(keys))
	for i, key := range keys {
		stored[i] = l.stored(key)
	}
	l.mu.Lock()
	stores := l.shared.stores
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	untils, err := l.config.Counts.CountedUntil(ctx, now, stored...)
	if err == nil && len(untils) != len(keys) {
		err = errors.New("the store returned the wrong number of counts")
	}
	if err != nil {
		l.warn(ctx, time.Now(), "read", err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, until := range untils {
		_, storing := l.shared.storing[keys[i]]
		l.merge(now, keys[i], until, storing || stores != l.shared.stores)
	}
}

// merge sets a stored count and adds the events that this node has counted since. If the count
// was read while this node's events were being stored, it may or may not include them. The
// node's own count is then kept: it lacks only the latest events of other nodes, which the next
// read includes.
func (l *Limiter) merge(now time.Time, key Key, until time.Time, ambiguous bool) {
	e := l.entries[key]
	if ambiguous && e != nil {
		return
	}
	if e == nil {
		if !until.After(now) {
			return
		}
		e = l.insert(now, key)
	}
	until = l.shared.storing[key].apply(until, l.config.Every)
	e.until = l.shared.pending[key].apply(until, l.config.Every)
	heap.Fix(&l.soonest, e.index)
}

// stored returns the key in Counts.
func (l *Limiter) stored(key Key) storage.CountKey {
	return storage.CountKey(NewKey(l.config.Name, string(key[:])))
}

// addShared adds events to be stored. The caller holds l.mu.
func (l *Limiter) addShared(now time.Time, key Key, events int) {
	if l.config.Counts == nil {
		return
	}
	c, ok := l.shared.pending[key]
	if !ok {
		c.at = now
	}
	c.added += events
	l.setPending(key, c)
}

// forgetShared marks a key to be reset in the store, if it may have stored events. The caller
// holds l.mu.
func (l *Limiter) forgetShared(now time.Time, e *entry) {
	if l.config.Counts == nil {
		return
	}
	_, underWay := l.shared.storing[e.key]
	if here := l.shared.pending[e.key].apply(time.Time{}, l.config.Every); e.until.After(here) && e.until.After(now) || underWay {
		l.setPending(e.key, change{at: now, reset: true})
	} else {
		delete(l.shared.pending, e.key)
	}
}

// setPending keeps at most Capacity changes, in case Counts fails for a long time.
func (l *Limiter) setPending(key Key, c change) {
	if l.shared.pending == nil {
		l.shared.pending = make(map[Key]change)
	}
	if _, ok := l.shared.pending[key]; !ok && len(l.shared.pending) >= l.config.Capacity {
		return
	}
	if c.added == 0 && !c.reset {
		delete(l.shared.pending, key)
		return
	}
	l.shared.pending[key] = c
	l.storeLater(storeEvery)
}

func (l *Limiter) storeLater(after time.Duration) {
	if l.shared.timer == nil && !l.shared.closed {
		l.shared.timer = time.AfterFunc(after, l.store)
	}
}

// store writes the pending changes in one operation.
func (l *Limiter) store() {
	l.oneStore.Lock()
	defer l.oneStore.Unlock()
	l.mu.Lock()
	storing := l.shared.pending
	l.shared.pending, l.shared.storing, l.shared.timer = nil, storing, nil
	l.mu.Unlock()
	if len(storing) == 0 {
		return
	}
	counts := make([]storage.Count, 0, len(storing))
	for key, c := range storing {
		counts = append(counts, storage.Count{Key: l.stored(key), At: c.at, Add: time.Duration(c.added) * l.config.Every, Reset: c.reset})
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	err := l.config.Counts.AddCounts(ctx, counts...)
	if err != nil {
		l.warn(ctx, time.Now(), "written", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shared.storing = nil
	l.shared.stores++
	if err == nil {
		return
	}
	for key, c := range storing {
		later := l.shared.pending[key]
		if !later.reset {
			later = change{at: c.at, reset: c.reset, added: c.added + later.added}
		}
		l.setPending(key, later)
	}
	if l.shared.timer != nil {
		l.shared.timer.Reset(retryEvery)
	}
}

// Close stores the pending changes.
func (l *Limiter) Close() {
	l.mu.Lock()
	l.shared.closed = true
	if l.shared.timer != nil {
		l.shared.timer.Stop()
		l.shared.timer = nil
	}
	l.mu.Unlock()
	l.store()
}

func (l *Limiter) warn(ctx context.Context, now time.Time, what string, err error) {
	l.mu.Lock()
	silent := now.Sub(l.shared.warned) < warnEvery && !l.shared.warned.IsZero()
	if !silent {
		l.shared.warned = now
	}
	l.mu.Unlock()
	if !silent {
		l.config.Logger.WarnContext(ctx, "shared rate limit counts not "+what+", each node limits by its own counts",
			"event", EventStoreFailed, "limit", l.config.Name, "error", err)
	}
}

// Package lastuse records when sessions and grants were used last, without a write for each use.
package lastuse

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/valetkey/valetkey/storage"
)

const (
	// Every is how long a use is not stored again after it was.
	Every = 5 * time.Minute
	// flushAfter is how long uses wait, so that many are stored in one transaction. If the process
	// is killed meanwhile, they are lost.
	flushAfter = 30 * time.Second
	// maxPending limits the uses that wait, maxKnown each generation of those that were stored.
	maxPending = 2000
	maxKnown   = 20_000
	// flushTimeout limits one transaction.
	flushTimeout = 10 * time.Second
)

// Recorder collects uses and stores them together. Its methods are safe for concurrent use.
type Recorder struct {
	store  storage.Uses
	logger *slog.Logger

	mu      sync.Mutex
	pending map[key]storage.Use
	// newer and older say when a use was passed to the store last, in two generations.
	newer, older map[key]time.Time
	timer        *time.Timer
	closed       bool
}

type key struct{ owner, name string }

// New returns a recorder for a store.
func New(store storage.Uses, logger *slog.Logger) *Recorder {
	return &Recorder{store: store, logger: logger, pending: map[key]storage.Use{}, newer: map[key]time.Time{}}
}

// Record notes a use. It does no I/O. If too many uses are waiting, it drops this one.
func (r *Recorder) Record(use storage.Use) {
	k := key{use.Owner, use.Name}
	r.mu.Lock()
	defer r.mu.Unlock()
	last, ok := r.newer[k]
	if !ok {
		last, ok = r.older[k]
	}
	if ok && use.At.Sub(last) < Every {
		return
	}
	if _, ok := r.pending[k]; !ok && len(r.pending) >= maxPending || r.closed {
		return
	}
	r.pending[k] = use
	if r.timer == nil {
		r.timer = time.AfterFunc(flushAfter, r.flush)
	}
}

// flush stores the pending uses. If that fails, they are dropped: the next use of each is recorded.
func (r *Recorder) flush() {
	r.mu.Lock()
	uses := make([]storage.Use, 0, len(r.pending))
	for k, use := range r.pending {
		uses = append(uses, use)
		if len(r.newer) >= maxKnown {
			r.older, r.newer = r.newer, map[key]time.Time{}
		}
		r.newer[k] = use.At
	}
	r.pending, r.timer = map[key]storage.Use{}, nil
	r.mu.Unlock()
	if len(uses) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	if err := r.store.RecordUses(ctx, uses...); err != nil {
		r.logger.WarnContext(ctx, "the last use of sessions and applications was not stored", "count", len(uses), "error", err)
	}
}

// Pending returns the uses that are not stored yet, of one owner.
func (r *Recorder) Pending(owner string) []storage.Use {
	r.mu.Lock()
	defer r.mu.Unlock()
	var uses []storage.Use
	for k, use := range r.pending {
		if k.owner == owner {
			uses = append(uses, use)
		}
	}
	return uses
}

// Close stores the pending uses. Later ones are dropped.
func (r *Recorder) Close() {
	r.mu.Lock()
	r.closed = true
	if r.timer != nil {
		r.timer.Stop()
	}
	r.mu.Unlock()
	r.flush()
}

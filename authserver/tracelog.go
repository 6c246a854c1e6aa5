package authserver

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/valetkey/valetkey/storage/record"
)

// traceLog hands the ladders of refused requests to the store in the background, a batch
// at a time, so that a flood of refusals costs a bounded number of writes. What does not
// fit is dropped, oldest first: explanations are a convenience, not a record.
type traceLog struct {
	store  record.Store
	logger *slog.Logger

	mu       sync.Mutex
	waiting  []record.Trace
	flushing bool
	idle     sync.Cond // signalled when flushing ends
}

const (
	maxWaitingTraces = 256
	traceFlushPause  = time.Second
)

func newTraceLog(store record.Store, logger *slog.Logger) *traceLog {
	l := &traceLog{store: store, logger: logger}
	l.idle.L = &l.mu
	return l
}

func (l *traceLog) keep(t record.Trace) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == maxWaitingTraces {
		l.waiting = append(l.waiting[:0], l.waiting[1:]...)
	}
	l.waiting = append(l.waiting, t)
	if !l.flushing {
		l.flushing = true
		go l.flush()
	}
}

func (l *traceLog) flush() {
	for {
		l.mu.Lock()
		batch := l.waiting
		l.waiting = nil
		if len(batch) == 0 {
			l.flushing = false
			l.idle.Broadcast()
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		started := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		if err := l.store.SaveTraces(ctx, maxStoredRefusals, batch...); err != nil {
			l.logger.Error("keep explanations of refusals", "error", err)
		}
		cancel()
		if len(batch) > maxWaitingTraces/4 { // a flood: leave the store to others for a while
			time.Sleep(max(0, traceFlushPause-time.Since(started)))
		}
	}
}

// find returns a ladder that may not have reached the store yet.
func (l *traceLog) find(ref string) (record.Trace, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.waiting {
		if t.Ref == ref {
			return t, true
		}
	}
	return record.Trace{}, false
}

// wait returns when everything that was kept has been handed over.
func (l *traceLog) wait() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.flushing {
		l.idle.Wait()
	}
}

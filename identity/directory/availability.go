package directory

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/valetkey/valetkey/identity"
)

// ErrUnavailable means that a directory did not respond in time, or not as it should.
var ErrUnavailable = errors.New("directory: the directory is not available")

const (
	firstRest = 5 * time.Second
	maxRest   = time.Minute
)

// availability remembers that a directory did not respond. It is then left alone for a while, so that
// not every sign-in waits for it. Afterwards one sign-in tries it again.
type availability struct {
	mu     sync.Mutex
	down   bool
	trying bool
	rest   time.Duration
	next   time.Time
}

// begin reports whether the directory may be asked now.
func (a *availability) begin(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.down {
		return true
	}
	if a.trying || now.Before(a.next) {
		return false
	}
	a.trying = true
	return true
}

// end records how it went, and reports whether that changed anything.
func (a *availability) end(now time.Time, failed bool) (changed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	changed = a.down != failed
	a.down, a.trying = failed, false
	if !failed {
		a.rest = 0
		return changed
	}
	a.rest = min(max(2*a.rest, firstRest), maxRest)
	a.next = now.Add(a.rest)
	return changed
}

// asked calls ask, unless the directory has just not responded.
func (d *Directory) asked(ctx context.Context, ask func(context.Context) error) error {
	if !d.available.begin(time.Now()) {
		return ErrUnavailable
	}
	limited, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	err := ask(limited)
	failed := errors.Is(err, ErrUnavailable) && ctx.Err() == nil // not if the user has gone
	if ctx.Err() != nil && err != nil || errors.Is(err, identity.ErrBusy) {
		d.available.release()
		return err
	}
	if d.available.end(time.Now(), failed) {
		if failed {
			d.log.LogAttrs(ctx, slog.LevelError, "directory not available", slog.String("directory", d.config.ID), slog.Any("error", err))
		} else {
			d.log.LogAttrs(ctx, slog.LevelInfo, "directory available again", slog.String("directory", d.config.ID))
		}
		d.all.changed()
	}
	return err
}

// release ends an attempt whose result says nothing.
func (a *availability) release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.trying = false
}

// isDown reports whether the directory did not respond.
func (a *availability) isDown() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.down
}

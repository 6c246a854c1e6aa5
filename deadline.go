package valetkey

import (
	"context"
	"sync"
	"time"
)

// deadline is context.WithDeadline for requests that may need no database: the timer is started when
// Done is first called. It is safe for concurrent use.
type deadline struct {
	context.Context // of the request
	at              time.Time

	mu     sync.Mutex
	timed  context.Context // nil until Done is called
	cancel context.CancelFunc
	ended  bool
}

// Deadline returns the earlier of its own deadline and that of the request.
func (d *deadline) Deadline() (time.Time, bool) {
	if at, ok := d.Context.Deadline(); ok && at.Before(d.at) {
		return at, true
	}
	return d.at, true
}

// Done starts the timer.
func (d *deadline) Done() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timed == nil {
		d.timed, d.cancel = context.WithDeadline(d.Context, d.at)
		if d.ended {
			d.cancel()
		}
	}
	return d.timed.Done()
}

// Err is like context.Context.Err.
func (d *deadline) Err() error {
	current, ended := d.current()
	if err := current.Err(); err != nil {
		return err
	}
	if ended {
		return context.Canceled
	}
	if !time.Now().Before(d.at) {
		return context.DeadlineExceeded
	}
	return nil
}

// Value is like context.Context.Value. Package context finds timed by it, to cancel the contexts that
// are derived from this one.
func (d *deadline) Value(key any) any {
	current, _ := d.current()
	return current.Value(key)
}

func (d *deadline) current() (current context.Context, ended bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timed != nil {
		return d.timed, d.ended
	}
	return d.Context, d.ended
}

// end releases the timer and cancels what is derived from the context.
func (d *deadline) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = true
	if d.cancel != nil {
		d.cancel()
	}
}

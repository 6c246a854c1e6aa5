package valetkey

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/valetkey/valetkey/audit"
)

// deadline is the context of a request. It has the actor of the request for the audit log, and is
// context.WithDeadline for requests that may need no database: the timer is started when
// Done is first called. It is safe for concurrent use.
type deadline struct {
	context.Context // of the request
	at              time.Time

	mu     sync.Mutex
	timed  context.Context // nil until Done is called
	cancel context.CancelFunc
	ended  bool

	actor   audit.RequestActor // of the request
	server  *Server
	request *http.Request
}

// begin makes d the context of a request that was received at a time. actor describes its actor.
func (d *deadline) begin(s *Server, r *http.Request, received time.Time, actor audit.Describer) {
	d.Context, d.at, d.server, d.request = r.Context(), received.Add(requestTimeout), s, r
	d.actor.Of = actor
}

// DescribeActor says where the request comes from, for the audit log.
func (d *deadline) DescribeActor(actor *audit.Actor) {
	if address := d.server.proxies.Of(d.request); address.IsValid() {
		actor.Address = address.Unmap().String()
	}
	actor.Reference = audit.NewReference()
	actor.TraceID = audit.TraceID(d.request.Header.Get("Traceparent"))
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
	if key == audit.ContextKey {
		return &d.actor
	}
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

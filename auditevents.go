package valetkey

import (
	"context"
	"log/slog"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/internal/ratelimit"
)

// Events that change nothing, such as failed sign-ins, reach the audit log through the log of events.
// These limits, in memory, keep strangers from filling the database. Each event has its own, and each
// address a part of it: nobody can keep the events of others out of the log.
var (
	auditedOfAddress = ratelimit.Limit{Burst: 20, Every: 5 * time.Minute}
	auditedOfEvent   = ratelimit.Limit{Burst: 200, Every: 20 * time.Second}
)

const (
	maxEventsWaiting = 4096
	// leftOutEvery is how often a record says how many events were left out.
	leftOutEvery = time.Hour
)

// auditEvents collects events for the audit log. It is safe for concurrent use.
type auditEvents struct {
	addresses, kinds *ratelimit.Limiter

	mu      sync.Mutex
	waiting []audit.Record
	leftOut int
	since   time.Time // when the first event was left out that no record mentions
}

func newAuditEvents() *auditEvents {
	return &auditEvents{
		addresses: ratelimit.New(ratelimit.Config{Limit: auditedOfAddress, Name: "audited events of an address", Capacity: 20_000}),
		kinds:     ratelimit.New(ratelimit.Config{Limit: auditedOfEvent, Name: "audited events"}),
	}
}

// add never waits: an event beyond the limits is counted.
func (e *auditEvents) add(now time.Time, r audit.Record) {
	network := r.Actor.Address
	if address, err := netip.ParseAddr(network); err == nil {
		network = ratelimit.Network(address)
	}
	taken := e.addresses.Take(now, ratelimit.NewKey(r.Event, network)) == 0 && e.kinds.Take(now, ratelimit.NewKey(r.Event)) == 0
	e.mu.Lock()
	defer e.mu.Unlock()
	if taken && len(e.waiting) < maxEventsWaiting {
		e.waiting = append(e.waiting, r)
		return
	}
	if e.leftOut == 0 {
		e.since = now
	}
	e.leftOut++
}

// take returns what is to be stored.
func (e *auditEvents) take(now time.Time) []audit.Record {
	e.mu.Lock()
	defer e.mu.Unlock()
	records := e.waiting
	e.waiting = nil
	if e.leftOut > 0 && now.Sub(e.since) >= leftOutEvery {
		records = append(records, audit.Record{
			Event: "audit.left_out", Object: audit.Object{Kind: audit.ObjectLog}, Details: map[string]string{"count": strconv.Itoa(e.leftOut)},
		})
		e.leftOut = 0
	}
	return records
}

// store stores what is waiting. After a failure, it is lost: it is in the log of events.
func (e *auditEvents) store(ctx context.Context, log audit.Log) error {
	records := e.take(time.Now())
	if len(records) == 0 {
		return nil
	}
	return log.WriteAudit(ctx, records...)
}

// auditHandler passes log records on, and events that change nothing to the audit log as well.
type auditHandler struct {
	slog.Handler
	events *auditEvents
}

// Handle implements slog.Handler.
func (h *auditHandler) Handle(ctx context.Context, record slog.Record) error {
	record.Attrs(func(first slog.Attr) bool {
		if first.Key == "event" {
			if e := audit.EventByName(first.Value.String()); e != nil && !e.Change {
				h.events.add(record.Time, eventRecord(ctx, e.Name, record))
			}
		}
		return false // the event is the first member
	})
	return h.Handler.Handle(ctx, record)
}

// eventRecord returns the audit record of an event. Events contain no secrets.
func eventRecord(ctx context.Context, name string, record slog.Record) audit.Record {
	r := audit.Record{Event: name, Actor: audit.ActorOf(ctx), Details: map[string]string{}}
	var add func(slog.Attr) bool
	add = func(a slog.Attr) bool {
		if a.Value.Kind() == slog.KindGroup {
			for _, member := range a.Value.Group() {
				add(member)
			}
			return true
		}
		value := a.Value.String()
		switch a.Key {
		case "event", "":
		case "sub":
			r.Subject = value
		case "client_id":
			r.ClientID = value
		case "address":
			if r.Actor.Address == "" {
				r.Actor.Address = value
			}
		case "reference":
			r.Actor.Reference = value
		default:
			r.Details[a.Key] = value
		}
		return true
	}
	record.Attrs(add)
	if r.Actor.Kind == "" {
		r.Actor.Kind = audit.KindUnknown
	}
	return r
}

// WithAttrs implements slog.Handler.
func (h *auditHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &auditHandler{h.Handler.WithAttrs(attrs), h.events}
}

// WithGroup implements slog.Handler.
func (h *auditHandler) WithGroup(name string) slog.Handler {
	return &auditHandler{h.Handler.WithGroup(name), h.events}
}

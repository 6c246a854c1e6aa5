package audit

import (
	"context"
	"strings"
	"time"
)

// Filter selects records. Members that are zero select everything.
type Filter struct {
	// Actor is the ID of an actor, Subject that of a user, ClientID that of a client.
	Actor    string
	Subject  string
	ClientID string
	// Event is the name of an event, or the beginning of names: "user.*".
	Event string
	// From and Until are the first time and the time after the last one.
	From, Until time.Time
	// After is the ID of the last record of the previous page; "" for the first page.
	After string
	// Ascending begins with the oldest record instead of the newest.
	Ascending bool
	// Limit is the largest number of records; DefaultLimit if it is zero, MaxLimit at most.
	Limit int
}

// The limits of a page.
const (
	DefaultLimit = 100
	MaxLimit     = 1000
)

// Log is the audit log of a store. Its methods may be called concurrently.
type Log interface {
	// AuditRecords returns the records that a filter selects, ordered by ID: the newest first,
	// unless the filter says otherwise. The next page begins after the ID of the last one. A record
	// of another node that is written at this moment may get an ID before those of a page that was
	// already read; by AuditSealed, none is missed.
	AuditRecords(ctx context.Context, filter Filter) ([]Record, error)
	// AuditSealed returns the records of the chain after a sequence number, in its order.
	AuditSealed(ctx context.Context, after int64, limit int) ([]Record, error)
	// WriteAudit stores records that belong to no change.
	WriteAudit(ctx context.Context, records ...Record) error
}

// Bounds returns the IDs between which the selected records are: from the first one, and before
// the second one; "" means no bound.
func (f Filter) Bounds() (from, before string) {
	if !f.From.IsZero() {
		from = firstID(f.From)
	}
	if !f.Until.IsZero() {
		before = firstID(f.Until)
	}
	switch {
	case f.After == "":
	case f.Ascending:
		from = max(from, f.After+"0") // the next ID is not shorter
	case before == "" || f.After < before:
		before = f.After
	}
	return from, before
}

// Size returns the limit that applies.
func (f Filter) Size() int {
	if f.Limit <= 0 {
		return DefaultLimit
	}
	return min(f.Limit, MaxLimit)
}

// EventNames returns the names of events that a filter selects; none if it selects all.
func (f Filter) EventNames() []string {
	prefix, ok := strings.CutSuffix(f.Event, "*")
	if !ok {
		if f.Event == "" {
			return nil
		}
		return []string{f.Event}
	}
	if prefix == "" {
		return nil
	}
	names := []string{}
	for _, event := range Events {
		if strings.HasPrefix(event.Name, prefix) {
			names = append(names, event.Name)
		}
	}
	if len(names) == 0 {
		names = []string{f.Event} // selects nothing
	}
	return names
}

package storage

import (
	"context"
	"net/netip"
	"time"
)

// Use is the last use of something that belongs to a user: a session, or what was granted to an
// application.
type Use struct {
	// Owner is the user's ID, Name what was used. The two identify a use.
	Owner, Name string
	At          time.Time
	// Remote is the address from which it was used; the zero Addr if that is unknown.
	Remote netip.Addr
	// Expires is when the use is forgotten.
	Expires time.Time
}

// Uses keeps the last use of things. It is written now and then, not for each use.
type Uses interface {
	// RecordUses stores uses, each unless a later one of the same thing is stored.
	RecordUses(ctx context.Context, uses ...Use) error
	// UsesOf returns the uses of an owner that have not expired, ordered by name, at most 1000.
	UsesOf(ctx context.Context, now time.Time, owner string) ([]Use, error)
}

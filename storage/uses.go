package storage

import (
	"context"
	"net/netip"
	"time"
)

// Use is the last use of something: of a user's session, of what a user granted to an application, or of
// a redirect URI.
type Use struct {
	// Owner is the ID of the user to whom it belongs, and Name says what was used. For a redirect URI, Owner
	// is the URI and Name the user (record.RedirectURIUse). The two identify a use.
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

package storage

import (
	"context"
	"time"
)

// CountKey names a count: a hash of what is counted.
type CountKey [32]byte

// Count is a change of a count, whose value is a time: each event adds to the time until
// which the events count.
type Count struct {
	Key CountKey
	// At is when the events happened.
	At time.Time
	// Add is how much longer the events count; negative takes events back.
	Add time.Duration
	// Reset forgets first what was counted before.
	Reset bool
}

// Counts adds up events of all nodes that share a store. A count that has come to its time
// is zero, and its space is reclaimed later.
type Counts interface {
	// CountedUntil returns until when the events of each key count, in the order of keys; the
	// zero time, or one that has passed, for a key without any.
	CountedUntil(ctx context.Context, now time.Time, keys ...CountKey) ([]time.Time, error)

	// AddCounts changes counts, in the given order where a key comes twice. A count becomes
	// Add after its former time, or after At if that had passed then or is reset. Changes of
	// concurrent callers add up.
	AddCounts(ctx context.Context, counts ...Count) error
}

package storage

import (
	"context"
	"time"
)

// CountKey names a count: a hash of what is counted.
type CountKey [32]byte

// Count is a change of a count. The value of a count is a time: each event postpones the time
// until which the events are counted.
type Count struct {
	Key CountKey
	// At is when the events happened.
	At time.Time
	// Add is how much longer the events are counted; a negative value takes events back.
	Add time.Duration
	// Reset sets the count to zero first.
	Reset bool
}

// Counts adds up events of all nodes that share a store. A count whose time has passed is
// zero, and its space is reclaimed later.
type Counts interface {
	// CountedUntil returns until when the events of each key are counted, in the order of
	// keys; for a key without any, the zero time or one that has passed.
	CountedUntil(ctx context.Context, now time.Time, keys ...CountKey) ([]time.Time, error)

	// AddCounts changes counts, in the given order if a key occurs twice. The new time is Add
	// after the former one, or after At if the former one had passed then or is reset. Changes
	// of concurrent callers add up.
	AddCounts(ctx context.Context, counts ...Count) error
}

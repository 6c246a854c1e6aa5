package storage

import (
	"context"
	"time"
)

// Message is something that must reach somebody who may not be there at this moment.
type Message struct {
	// ID is the sender's own. While a message waits, another with its ID is the same one.
	ID string
	// Owner is who the message waits for, such as a host. Owners take turns, so that many
	// messages for one do not delay those for another.
	Owner string
	// Data is the sender's, at most MaxData bytes. It holds no secret in clear.
	Data []byte
	// Created is when it was sent; Due is before when nobody claims it. Stores keep
	// milliseconds.
	Created, Due time.Time
	// Attempts counts how often it was claimed.
	Attempts int
}

// Outbox keeps messages until they have been delivered. All methods may be called at the
// same time from many goroutines and processes; what returned nil is durable.
//
// Whoever claims a message has it alone until the claim ends; if nothing is heard of them
// by then, it is due again. So a message is delivered at least once, and twice only if
// somebody dies, or takes too long, between the delivery and Remove.
type Outbox interface {
	// Enqueue stores messages, all or none. One whose ID waits already changes nothing.
	Enqueue(ctx context.Context, messages ...Message) error

	// Claim returns at most limit of the messages that are due, counts the attempt, and makes
	// them due at until. Of several callers one gets a message. Of each owner those come first
	// that have been due longest, and no more than leave perOwner messages claimed, by this
	// caller and all others; callers that claim at the same moment may exceed that.
	Claim(ctx context.Context, now, until time.Time, limit, perOwner int) ([]Message, error)

	// Postpone makes a message due at another time. One that is not there is no error.
	Postpone(ctx context.Context, id string, due time.Time) error

	// Remove forgets messages; those that are not there are no error.
	Remove(ctx context.Context, ids ...string) error
}

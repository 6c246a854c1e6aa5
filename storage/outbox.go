package storage

import (
	"context"
	"strings"
	"time"
	"unicode"
)

// Message is a message to a receiver that may be unavailable at the moment.
type Message struct {
	// ID is chosen by the sender. While a message is waiting, another one with the same ID is
	// the same message.
	ID string
	// Owner is the receiver, such as a host. Owners take turns, so that many messages for one
	// do not delay those for another.
	Owner string
	// Data belongs to the sender, at most MaxData bytes. It contains no secret in plain text.
	Data []byte
	// Created is when the message was enqueued. It cannot be claimed before Due. Stores keep
	// milliseconds.
	Created, Due time.Time
	// Attempts counts how often it was claimed.
	Attempts int
}

// The outboxes of a server, by name.
const (
	OutboxClients = "clients" // logout tokens and other messages to clients
	OutboxUsers   = "users"   // mail
	OutboxEvents  = "events"  // audit records for webhooks
)

// FailedMessage is a message that its sender has given up, without its Data. It has no Due.
type FailedMessage struct {
	Message
	Failed time.Time
	// Cause says what was wrong, for the operator.
	Cause string
}

const (
	// MaxFailedPerOwner and MaxFailed limit the failed messages that an outbox keeps, for one owner and
	// in all. The oldest ones are dropped.
	MaxFailedPerOwner = 200
	MaxFailed         = 5000
	// FailedKept is how long a failed message is kept.
	FailedKept = 7 * 24 * time.Hour
	// maxCause limits FailedMessage.Cause, in bytes.
	maxCause = 500
)

// ClipCause shortens the cause of a failure, and makes it text that every store can keep.
func ClipCause(cause string) string {
	cause = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, cause)
	if len(cause) > maxCause {
		cause = cause[:maxCause] + "…"
	}
	return strings.ToValidUTF8(cause, "")
}

// uninterruptedFor is how long a step may take that the end of a context does not interrupt.
const uninterruptedFor = 5 * time.Second

// Uninterrupted returns a context that does not end with ctx, but after five seconds. A server that
// stops uses it for the claim of a message, whose result it must know, and for what became of the
// message. Otherwise nobody would send the message until the claim ends, or it would be sent again
// although it has been delivered.
func Uninterrupted(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), uninterruptedFor)
}

// Outbox stores messages until they have been delivered. All methods may be called
// concurrently from many goroutines and processes; if a method returns nil, its effect is
// durable.
//
// A claimed message belongs to one caller until the claim ends; unless the caller removes or
// postpones it before, it is due again then. So a message is delivered at least once, and
// twice only if a caller crashes, or takes too long, between the delivery and Remove.
type Outbox interface {
	// Enqueue stores messages, all or none. A message whose ID is already waiting changes
	// nothing.
	Enqueue(ctx context.Context, messages ...Message) error

	// Claim returns at most limit of the messages that are due, counts the attempt, and makes
	// them due at until. If several callers claim, each message goes to one of them. For each
	// owner it returns the messages that have been due longest, and only so many that at most
	// perOwner messages of the owner are claimed, by this caller and all others; callers that
	// claim at the same moment may exceed that.
	Claim(ctx context.Context, now, until time.Time, limit, perOwner int) ([]Message, error)

	// Postpone makes a message due at another time. It is not an error if the message does not
	// exist.
	Postpone(ctx context.Context, id string, due time.Time) error

	// Waiting returns how many messages of an owner there are, claimed or not.
	Waiting(ctx context.Context, owner string) (int, error)

	// Fail takes a message that cannot be delivered out of the outbox, and keeps it for FailedKept
	// for the operator, who can put it back. It is not an error if the message does not exist.
	Fail(ctx context.Context, id string, now time.Time, cause string) error

	// Remove deletes messages; it is not an error if some of them do not exist.
	Remove(ctx context.Context, ids ...string) error
}

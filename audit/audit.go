// Package audit has the record of who changed what, and what makes such a record trustworthy:
// a chain of hashes and signed checkpoints. A store writes a record in the operation that makes
// the change. It takes the author of the change from the context: see [WithActor].
package audit

import "context"

// Kind says what kind of author made a change.
type Kind string

// The kinds of actors.
const (
	// KindUser is a person who is signed in.
	KindUser Kind = "user"
	// KindClient is a client that has authenticated, such as a service account.
	KindClient Kind = "client"
	// KindOperator is a person at the command line of a machine that has the database.
	KindOperator Kind = "operator"
	// KindFile is a configuration or declaration file.
	KindFile Kind = "file"
	// KindSystem is the server itself: a background task.
	KindSystem Kind = "system"
	// KindUnknown is a request before anyone has authenticated.
	KindUnknown Kind = "unknown"
)

// Actor is the author of a change, and where it came from. The zero Actor says that nothing is
// known. No member may contain a secret.
type Actor struct {
	Kind Kind
	// ID is the user's or client's ID, the operator's name in the operating system, or the path of a file.
	ID string
	// Name is a text for people, such as a username.
	Name string
	// OnBehalfOf is the user for whom a client or another user acts, if any.
	OnBehalfOf string
	// ClientID is the client that sent the request, if it is known and is not the actor itself.
	ClientID string
	// Address is the IP address of the request, or the name of the operator's machine.
	Address string
	// Reference is the reference of the request, as in its log records and on its error pages.
	Reference string
	// TraceID is the trace ID of the request's traceparent, 32 hexadecimal digits (W3C Trace Context).
	TraceID string
}

type actorKey struct{}

// WithActor returns a context whose changes are recorded as made by actor. A member that actor
// leaves empty keeps the value that ctx already has, so each layer adds what it knows: the
// middleware the address, the sign-in the user. A Kind other than empty replaces Kind, ID and Name together.
func WithActor(ctx context.Context, actor Actor) context.Context {
	known := ActorOf(ctx)
	if actor.Kind == "" {
		actor.Kind, actor.ID, actor.Name = known.Kind, known.ID, known.Name
	}
	keep := func(member *string, before string) {
		if *member == "" {
			*member = before
		}
	}
	keep(&actor.OnBehalfOf, known.OnBehalfOf)
	keep(&actor.ClientID, known.ClientID)
	keep(&actor.Address, known.Address)
	keep(&actor.Reference, known.Reference)
	keep(&actor.TraceID, known.TraceID)
	return context.WithValue(ctx, ContextKey, actor)
}

// ActorOf returns the actor of ctx, or the zero Actor.
func ActorOf(ctx context.Context) Actor {
	switch actor := ctx.Value(ContextKey).(type) {
	case Actor:
		return actor
	case *RequestActor:
		return actor.Actor()
	}
	return Actor{}
}

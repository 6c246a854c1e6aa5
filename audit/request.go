package audit

import (
	"context"
	"strings"
	"sync"
)

// RequestActor is the actor of one HTTP request. It learns who that is while the request is being
// handled, and what costs something to find out only if a record needs it. It is the value of
// ContextKey in the context of the request. It is safe for concurrent use.
type RequestActor struct {
	// Of describes the request. It is called at most once.
	Of Describer

	mu        sync.Mutex
	described bool
	actor     Actor
}

// Describer sets Address, Reference and TraceID of an actor.
type Describer interface{ DescribeActor(*Actor) }

// ContextKey is the key of a *RequestActor in a context.
var ContextKey any = actorKey{}

// Actor returns what is known about the actor.
func (r *RequestActor) Actor() Actor {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.described && r.Of != nil {
		r.described = true
		r.Of.DescribeActor(&r.actor)
	}
	actor := r.actor
	if actor.Kind == "" {
		actor.Kind = KindUnknown
	}
	return actor
}

// Identify says who sends the request of ctx. A Kind replaces Kind, ID and Name, and a ClientID the
// client through which a user acts. It has no effect if ctx does not belong to a request, or already
// has an actor of its own (WithActor).
func Identify(ctx context.Context, actor Actor) {
	r, ok := ctx.Value(ContextKey).(*RequestActor)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if actor.Kind != "" {
		r.actor.Kind, r.actor.ID, r.actor.Name = actor.Kind, actor.ID, actor.Name
	}
	if actor.ClientID != "" {
		r.actor.ClientID = actor.ClientID
	}
}

// TraceID returns the trace ID of a traceparent header; "" if it is malformed (W3C Trace Context,
// section 3.2).
func TraceID(traceparent string) string {
	parts := strings.Split(traceparent, "-")
	if len(parts) < 4 || len(parts[0]) != 2 || len(parts[1]) != 32 || strings.Trim(parts[1], "0") == "" {
		return ""
	}
	if strings.Trim(parts[1], "0123456789abcdef") != "" {
		return ""
	}
	return parts[1]
}

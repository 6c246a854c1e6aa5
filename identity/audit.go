package identity

import (
	"context"
	"strings"

	"github.com/valetkey/valetkey/audit"
)

// asUser returns a context in which a user acts who has proved who they are in this request, unless
// it already has someone who acts.
func asUser(ctx context.Context, user *User) context.Context {
	if kind := audit.ActorOf(ctx).Kind; kind != "" && kind != audit.KindUnknown {
		return ctx
	}
	return audit.WithActor(ctx, audit.Actor{Kind: audit.KindUser, ID: user.ID, Name: user.Username})
}

// described returns a context in which a change of a user has a name of its own in the audit log.
func described(ctx context.Context, event string) context.Context {
	return audit.WithRecord(ctx, audit.Record{Event: event})
}

// auditSignIn returns a context for storing a session.
func auditSignIn(ctx context.Context, session *Session) context.Context {
	d := &session.SessionDetails
	r := audit.Record{
		Event: "sign_in.succeeded", Subject: session.User.ID,
		Object:  audit.Object{Kind: audit.ObjectSession, ID: session.ID, Name: session.User.Username},
		Details: map[string]string{"amr": strings.Join(d.AMR, " "), "acr": d.ACR, "user_agent": d.UserAgent},
	}
	if len(session.former) > 0 {
		r.Details["continues"] = session.former[len(session.former)-1]
	}
	if d.Remote.IsValid() {
		r.Details["address"] = d.Remote.Unmap().String()
	}
	return audit.WithRecord(asUser(ctx, session.User), r)
}

// auditSessionEnd returns a context for ending a session.
func auditSessionEnd(ctx context.Context, session *Session, userID string) context.Context {
	return audit.WithRecord(ctx, audit.Record{
		Event: "session.ended", Subject: userID, Object: audit.Object{Kind: audit.ObjectSession, ID: session.ID},
	})
}

package authserver

import (
	"context"

	"github.com/valetkey/valetkey/audit"
)

// auditTokens returns a context for an operation that ends tokens: the store writes an audit record
// if it ends any. what says which tokens, for people.
func auditTokens(ctx context.Context, event string, a authorization, what string) context.Context {
	return audit.WithRecord(ctx, audit.Record{
		Event: event, Subject: a.Subject, ClientID: a.ClientID,
		Object:  audit.Object{Kind: audit.ObjectToken},
		Details: map[string]string{"ended": what},
	})
}

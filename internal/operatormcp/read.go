package operatormcp

import (
	"context"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/valetkey/valetkey/manage/api"
)

// reading describes a tool that changes nothing.
func reading(name, description string) *mcp.Tool {
	closed := false
	return &mcp.Tool{Name: name, Description: description, Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true, IdempotentHint: true, OpenWorldHint: &closed}}
}

type nothing struct{}

type clientID struct {
	ClientID string `json:"client_id" jsonschema:"the client_id of the application"`
}

type subject struct {
	Subject string `json:"sub" jsonschema:"the sub of the user, from list_users"`
}

type searched struct {
	page
	Query string `json:"q,omitempty" jsonschema:"a part of a name, id or email address"`
}

type searchedUsers struct {
	searched
	Role     string `json:"role,omitempty" jsonschema:"administrator, operator, support or auditor"`
	Disabled string `json:"disabled,omitempty" jsonschema:"true or false"`
}

type searchedAudit struct {
	page
	Actor    string `json:"actor,omitempty" jsonschema:"id of the user or client that made the change"`
	Subject  string `json:"sub,omitempty" jsonschema:"sub of the user whom the record is about"`
	ClientID string `json:"client_id,omitempty" jsonschema:"the client that the record is about"`
	Event    string `json:"event,omitempty" jsonschema:"name of an event, or the beginning of names, such as user.*"`
	Since    string `json:"since,omitempty" jsonschema:"not before this time (RFC 3339)"`
	Until    string `json:"until,omitempty" jsonschema:"before this time (RFC 3339)"`
}

type searchedRefusals struct {
	page
	ClientID string `json:"client_id,omitempty" jsonschema:"the client that sent the request"`
	Endpoint string `json:"endpoint,omitempty" jsonschema:"path below the issuer, such as /token"`
	Error    string `json:"error,omitempty" jsonschema:"error code of the response, such as invalid_grant"`
	Query    string `json:"q,omitempty" jsonschema:"a text in the checks, such as a sub or a redirect URI"`
	Since    string `json:"since,omitempty" jsonschema:"not before this time (RFC 3339)"`
	Until    string `json:"until,omitempty" jsonschema:"before this time (RFC 3339)"`
}

type reference struct {
	Reference string `json:"reference" jsonschema:"the reference in an error message, such as 7K3M-2QXA"`
}

type previewed struct {
	ClientID string   `json:"client_id" jsonschema:"the client_id of the application"`
	Subject  string   `json:"sub,omitempty" jsonschema:"the sub of the user; empty for the client's own token"`
	Scope    string   `json:"scope,omitempty" jsonschema:"scopes, separated by spaces; empty for all of the client's"`
	Resource []string `json:"resource,omitempty" jsonschema:"identifiers of APIs"`
}

func (t *tools) addReading() {
	add(t, reading("whoami", "Who the tools act for, and what they may do."), func(ctx context.Context, c *api.Connection, _ nothing) (any, error) {
		return c.Whoami(ctx)
	})
	add(t, reading("list_clients", "List the applications (clients) of the server."), func(ctx context.Context, c *api.Connection, in searched) (any, error) {
		return c.Clients(ctx, in.list(map[string]string{"q": in.Query}))
	})
	add(t, reading("get_client", "Show an application with its settings, without its secrets."), func(ctx context.Context, c *api.Connection, in clientID) (any, error) {
		return c.Client(ctx, in.ClientID)
	})
	add(t, reading("list_client_grants", "List which users have allowed an application what."), func(ctx context.Context, c *api.Connection, in struct {
		clientID
		page
	}) (any, error) {
		return c.ClientGrants(ctx, in.ClientID, in.list(nil))
	})
	add(t, reading("list_users", "List users."), func(ctx context.Context, c *api.Connection, in searchedUsers) (any, error) {
		return c.Users(ctx, in.list(map[string]string{"q": in.Query, "role": in.Role, "disabled": in.Disabled}))
	})
	add(t, reading("get_user", "Show a user, with the means to sign in."), func(ctx context.Context, c *api.Connection, in subject) (any, error) {
		return c.User(ctx, in.Subject)
	})
	add(t, reading("list_user_sessions", "List where a user is signed in."), func(ctx context.Context, c *api.Connection, in subject) (any, error) {
		return c.UserSessions(ctx, in.Subject)
	})
	add(t, reading("list_user_grants", "List what a user has allowed which applications."), func(ctx context.Context, c *api.Connection, in struct {
		subject
		page
	}) (any, error) {
		return c.UserGrants(ctx, in.Subject, in.list(nil))
	})
	add(t, reading("list_scopes", "List the scopes that applications may request."), func(ctx context.Context, c *api.Connection, in page) (any, error) {
		return c.Scopes(ctx, in.list(nil))
	})
	add(t, reading("list_resources", "List the APIs (protected resources) of the server."), func(ctx context.Context, c *api.Connection, in page) (any, error) {
		return c.Resources(ctx, in.list(nil))
	})
	add(t, reading("list_keys", "List the signing keys, and when they sign."), func(ctx context.Context, c *api.Connection, _ nothing) (any, error) {
		return c.Keys(ctx)
	})
	add(t, reading("search_audit", "Search the log of who changed what, the newest first."), func(ctx context.Context, c *api.Connection, in searchedAudit) (any, error) {
		return c.Audit(ctx, in.list(map[string]string{"actor": in.Actor, "sub": in.Subject, "client_id": in.ClientID, "event": in.Event, "since": in.Since, "until": in.Until}))
	})
	add(t, reading("list_refusals", "List refused requests with the checks that they passed and failed, the newest first."), func(ctx context.Context, c *api.Connection, in searchedRefusals) (any, error) {
		return c.Explanations(ctx, in.list(map[string]string{"client_id": in.ClientID, "endpoint": in.Endpoint, "error": in.Error, "q": in.Query, "since": in.Since, "until": in.Until}))
	})
	add(t, reading("explain", "Explain why a request was refused, and how to fix it, by the reference in the error message."), func(ctx context.Context, c *api.Connection, in reference) (any, error) {
		return c.Explanation(ctx, in.Reference)
	})
	add(t, reading("preview", "Say what an application would get for a user: each claim with the rule that put it there, or the rule that refuses."), func(ctx context.Context, c *api.Connection, in previewed) (any, error) {
		return c.Preview(ctx, api.PreviewRequest{ClientID: in.ClientID, Subject: in.Subject, Scope: in.Scope, Resources: in.Resource})
	})
}

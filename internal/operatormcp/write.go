package operatormcp

import (
	"context"
	"crypto/rand"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/valetkey/valetkey/manage/api"
)

// writing describes a tool that ends or revokes something. There is none that creates something with a
// secret, or that gives permissions.
func writing(name, description string) *mcp.Tool {
	destructive, closed := true, false
	return &mcp.Tool{Name: name, Description: description, Annotations: &mcp.ToolAnnotations{DestructiveHint: &destructive, IdempotentHint: true, OpenWorldHint: &closed}}
}

// done is the result of tools that return nothing else.
var done = map[string]bool{"done": true}

func change() api.Change { return api.Change{IdempotencyKey: rand.Text()} }

func (t *tools) addWriting() {
	add(t, writing("end_session", "Sign a user out of one session, and end what was issued in it."), func(ctx context.Context, c *api.Connection, in struct {
		subject
		Session string `json:"session" jsonschema:"the id of the session, from list_user_sessions"`
	}) (any, error) {
		return done, c.EndUserSession(ctx, in.Subject, in.Session, change())
	})
	add(t, writing("end_user", "Sign a user out everywhere, and end all codes and tokens. What the user has allowed applications stays."), func(ctx context.Context, c *api.Connection, in subject) (any, error) {
		return done, c.EndUser(ctx, in.Subject, change())
	})
	add(t, writing("revoke_grant", "Revoke what a user has allowed an application, with every token."), func(ctx context.Context, c *api.Connection, in struct {
		subject
		clientID
	}) (any, error) {
		return done, c.DeleteGrant(ctx, in.Subject, in.ClientID, change())
	})
	add(t, writing("set_user_disabled", "Disable a user, which ends all sessions and tokens, or enable the user again."), func(ctx context.Context, c *api.Connection, in struct {
		subject
		Disabled bool `json:"disabled" jsonschema:"true to disable, false to enable"`
	}) (any, error) {
		user, err := c.User(ctx, in.Subject)
		if err != nil {
			return nil, err
		}
		return c.UpdateUser(ctx, in.Subject, user.ETag, &api.UserMembers{Username: user.Username, Claims: user.Claims, Disabled: in.Disabled}, change())
	})
}

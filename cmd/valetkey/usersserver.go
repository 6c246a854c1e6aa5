package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/storage/record"
)

// newChange returns a change that can be sent again.
func newChange() api.Change { return api.Change{IdempotencyKey: rand.Text()} }

// userOfServer returns the user with a username, email address or sub. As in a database, names come
// first.
func userOfServer(ctx context.Context, connection *api.Connection, name string) (*api.User, error) {
	for user, err := range connection.AllUsers(ctx, api.List{Filter: url.Values{"q": {name}}}) {
		if err != nil {
			return nil, err
		}
		email, _ := user.Claims["email"].(string)
		if strings.EqualFold(user.Username, name) || strings.EqualFold(email, name) {
			return connection.User(ctx, user.ID) // with its ETag
		}
	}
	user, err := connection.User(ctx, name)
	if api.StatusOf(err) == http.StatusNotFound {
		return nil, usageError{fmt.Errorf("%q: there is no such user: \"valetkey users list\" shows all users", name)}
	}
	return user, err
}

func viewUserOfServer(u *api.User) userView {
	v := userView{
		Sub: u.ID, Username: u.Username, State: "active", Administrator: u.Role == api.RoleAdministrator, Role: string(u.Role), HasPassword: u.HasPassword,
		CreatedAt: u.CreatedAt, UpdatedAt: u.UpdatedAt, Claims: u.Claims, DeclaredBy: u.DeclaredBy,
	}
	for _, m := range u.Methods {
		method := userMethod{ID: m.ID, Method: m.Kind, Name: m.Name, CreatedAt: m.CreatedAt}
		if m.LastUsed != nil {
			method.LastUsedAt = *m.LastUsed
		}
		v.Methods = append(v.Methods, method)
	}
	for _, l := range u.Links {
		link := userLink{ID: l.ID, Provider: l.Provider, Issuer: l.Issuer, Subject: l.Subject, Label: l.Label, LinkedAt: l.LinkedAt}
		if l.LastUsedAt != nil {
			link.LastUsedAt = *l.LastUsedAt
		}
		v.Links = append(v.Links, link)
	}
	switch {
	case u.RetiredAt != nil:
		v.State = "retired"
	case u.Disabled:
		v.State = "disabled"
	}
	return v
}

// onServer calls f with the user on a running server. It reports whether the command is about a
// server; if not, it works on a database.
func (c *oneUser) onServer(ctx context.Context, f func(*api.Connection, *api.User) error) (bool, error) {
	connection, err := c.connection(ctx)
	if err != nil || connection == nil {
		return false, err
	}
	user, err := userOfServer(ctx, connection, c.Name)
	if err != nil {
		return true, err
	}
	return true, f(connection, user)
}

func (c *usersShowCommand) showOfServer(ctx context.Context, o *output, connection *api.Connection, user *api.User) error {
	v := viewUserOfServer(user)
	sessions, err := connection.UserSessions(ctx, user.ID)
	if err != nil {
		return err
	}
	count := len(sessions.Sessions)
	v.Sessions = &count
	page := func(ctx context.Context, list api.List) (*api.GrantPage, error) {
		return connection.UserGrants(ctx, user.ID, list)
	}
	for grant, err := range api.All(ctx, api.List{}, page, grantsOf) {
		if err != nil {
			return err
		}
		v.Clients = append(v.Clients, grant.ClientID)
	}
	if c.JSON {
		return printJSON(o.out, v)
	}
	return printMembers(o.out, v)
}

func grantsOf(p *api.GrantPage) ([]api.Grant, string) { return p.Grants, p.Next }

// setDisabled disables or enables a user.
func (c *oneUser) setDisabled(ctx context.Context, o *output, connection *api.Connection, user *api.User, disabled bool, action, text string) error {
	if user.RetiredAt != nil && !disabled {
		return usageError{fmt.Errorf("%q is retired because its source no longer declares it: declare it there again", user.Username)}
	}
	members := &api.UserMembers{Username: user.Username, Claims: user.Claims, Disabled: disabled}
	if _, err := connection.UpdateUser(ctx, user.ID, user.ETag, members, newChange()); err != nil {
		return err
	}
	return c.printAction(o, user, action, text)
}

func (c *oneUser) printAction(o *output, user *api.User, action, text string) error {
	if c.JSON {
		return printJSON(o.out, map[string]string{"action": action, "sub": user.ID, "username": user.Username})
	}
	fmt.Fprintf(o.out, "%s %s\n", printable(user.Username), text)
	return nil
}

func (c *usersDeleteCommand) deleteOnServer(ctx context.Context, o *output, connection *api.Connection, user *api.User) error {
	if !c.Yes {
		return usageError{fmt.Errorf("this permanently deletes %q (sub %s): pass --yes to confirm, or use \"valetkey users disable\"", user.Username, user.ID)}
	}
	if err := connection.DeleteUser(ctx, user.ID, user.ETag, newChange()); err != nil {
		return err
	}
	return c.printAction(o, user, "deleted", "was deleted.")
}

func (c *usersRecoverCommand) linkOfServer(ctx context.Context, o *output, connection *api.Connection, user *api.User) error {
	link, err := connection.CreateRecovery(ctx, user.ID, api.LinkRequest{Lifetime: record.Duration(c.Lifetime)}, newChange())
	if err != nil {
		return err
	}
	return c.printLink(o, link.URL, user.ID, user.Username, link.ExpiresAt)
}

func (c *usersRemoveMethodCommand) removeOnServer(ctx context.Context, o *output, connection *api.Connection, user *api.User) error {
	kind := ""
	for _, m := range user.Methods {
		if m.ID == c.ID {
			kind = m.Kind
		}
	}
	for _, l := range user.Links {
		if l.ID == c.ID {
			kind = l.Provider
		}
	}
	if kind == "" {
		return usageError{fmt.Errorf("the user has no method and no link with that id: \"valetkey users show %s\" lists them", user.Username)}
	}
	if _, err := connection.RemoveUserMethod(ctx, user.ID, user.ETag, c.ID, newChange()); err != nil {
		return err
	}
	return c.printRemoved(o, user.ID, user.Username, kind)
}

func (c *usersInviteCommand) inviteOnServer(ctx context.Context, o *output, connection *api.Connection) error {
	link, err := connection.CreateInvitation(ctx, api.LinkRequest{Email: c.Email, Lifetime: record.Duration(c.Lifetime)}, newChange())
	if err != nil {
		return err
	}
	return c.printLink(o, link.URL, link.ExpiresAt)
}

// linkOfServer prints a link with which the user sets the password. The management API sets no
// passwords: an administrator who could would sign in as everyone.
func (c *usersSetPasswordCommand) linkOfServer(ctx context.Context, o *output, connection *api.Connection, user *api.User) error {
	recover := usersRecoverCommand{oneUser: c.oneUser}
	fmt.Fprintln(o.log, "The management API sets no passwords. With this link, the user does.")
	return recover.linkOfServer(ctx, o, connection, user)
}

func (c *usersRecoverCommand) printLink(o *output, link, sub, username string, expires time.Time) error {
	if c.JSON {
		return printJSON(o.out, map[string]string{"link": link, "sub": sub, "username": username, "expires": expires.UTC().Format(time.RFC3339)})
	}
	fmt.Fprintln(o.out, link)
	fmt.Fprintf(o.log, "Whoever opens the link can take over the account of %s. It is not shown again.\n", printable(username))
	return nil
}

func (c *usersRemoveMethodCommand) printRemoved(o *output, sub, username, kind string) error {
	if c.JSON {
		return printJSON(o.out, map[string]string{"action": "method_removed", "sub": sub, "username": username, "method": kind})
	}
	fmt.Fprintf(o.out, "%s can no longer sign in with %s (%s). All sessions and tokens have ended.\n", printable(username), printable(c.ID), kind)
	return nil
}

func (c *usersInviteCommand) printLink(o *output, link string, expires time.Time) error {
	if c.JSON {
		return printJSON(o.out, map[string]string{"link": link, "email": c.Email, "expires": expires.UTC().Format(time.RFC3339)})
	}
	if link == "" {
		fmt.Fprintf(o.out, "A server will send the invitation to %s.\n", printable(c.Email))
		return nil
	}
	fmt.Fprintln(o.out, link)
	fmt.Fprintln(o.log, "Whoever opens the link first can create the account. It is not shown again.")
	return nil
}

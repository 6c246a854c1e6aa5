package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/useradmin"
	"github.com/valetkey/valetkey/manage/api"
)

type usersCommand struct {
	List         usersListCommand         `cmd:"" help:"List all users."`
	Show         usersShowCommand         `cmd:"" help:"Show a user with its sessions and applications."`
	Disable      usersDisableCommand      `cmd:"" help:"Disable a user and end its sessions and tokens."`
	Enable       usersEnableCommand       `cmd:"" help:"Enable a user again."`
	Delete       usersDeleteCommand       `cmd:"" help:"Delete a user permanently."`
	Invite       usersInviteCommand       `cmd:"" help:"Invite a person to create an account."`
	Recover      usersRecoverCommand      `cmd:"" help:"Print a link for a user who has lost every way to sign in."`
	RemoveMethod usersRemoveMethodCommand `cmd:"" name:"remove-method" help:"Remove a way to sign in that a user has lost, or a link to another provider."`
	SetPassword  usersSetPasswordCommand  `cmd:"" name:"set-password" help:"Set a user's password and end the user's sessions and tokens."`
}

// userView is a user as JSON. Password hashes are not shown.
type userView struct {
	Sub           string         `json:"sub"`
	Username      string         `json:"username"`
	State         string         `json:"state"` // active, disabled or retired
	Administrator bool           `json:"administrator"`
	Role          string         `json:"role,omitempty"`
	HasPassword   bool           `json:"has_password"`
	CreatedAt     time.Time      `json:"created_at"`
	UpdatedAt     time.Time      `json:"updated_at"`
	Claims        map[string]any `json:"claims,omitempty"`
	Methods       []userMethod   `json:"methods,omitempty"`
	Links         []userLink     `json:"links,omitempty"`
	DeclaredBy    string         `json:"declared_by,omitempty"`
	Sessions      *int           `json:"sessions,omitempty"`
	Clients       []string       `json:"clients,omitempty"`
}

// userMethod is a way to sign in other than the password.
type userMethod struct {
	ID         string    `json:"id"`
	Method     string    `json:"method"`
	Name       string    `json:"name,omitempty"`
	CreatedAt  time.Time `json:"created_at,omitzero"`
	LastUsedAt time.Time `json:"last_used_at,omitzero"`
}

// userLink is a user of another provider or a directory who signs in to the account.
type userLink struct {
	ID         string    `json:"id"`
	Provider   string    `json:"provider"`
	Issuer     string    `json:"issuer"`
	Subject    string    `json:"sub"`
	Label      string    `json:"label,omitempty"`
	LinkedAt   time.Time `json:"linked_at"`
	LastUsedAt time.Time `json:"last_used_at,omitzero"`
}

func viewUser(d *useradmin.User) userView {
	v := userView{
		Sub: d.ID, Username: d.Username, State: "active", Administrator: d.Administrator, HasPassword: d.PasswordHash != "",
		CreatedAt: d.CreatedAt.UTC(), UpdatedAt: d.UpdatedAt.UTC(), Claims: d.Claims, DeclaredBy: d.Source, Role: d.Account.Role,
	}
	if d.Administrator {
		v.Role = string(api.RoleAdministrator)
	}
	for _, a := range d.Methods() {
		v.Methods = append(v.Methods, userMethod{a.ID, string(a.Kind), a.Name, a.CreatedAt.UTC(), a.LastUsedAt.UTC()})
	}
	for _, l := range d.External {
		v.Links = append(v.Links, userLink{l.ID, l.Provider, l.Issuer, l.Subject, cmp.Or(l.Label, l.Email), l.LinkedAt.UTC(), l.LastUsedAt.UTC()})
	}
	switch {
	case !d.RetiredAt.IsZero():
		v.State = "retired"
	case d.Disabled:
		v.State = "disabled"
	}
	return v
}

// eachUser calls f for every user of a store, ordered by sub.
func eachUser(ctx context.Context, store *database.Database, f func(*useradmin.User)) error {
	const page = 500
	after := ""
	for {
		users, err := store.Users(ctx, after, page)
		if err != nil {
			return err
		}
		for _, u := range users {
			f(&useradmin.User{User: u})
			after = u.ID
		}
		if len(users) < page {
			return nil
		}
	}
}

type usersListCommand struct {
	target `embed:""`
}

// Help is shown by "valetkey users list --help".
func (usersListCommand) Help() string { return "Example: valetkey users list --config valetkey.yaml" }

// Run lists the users by name.
func (c *usersListCommand) Run(ctx context.Context, o *output) error {
	users, err := c.users(ctx)
	if err != nil {
		return err
	}
	slices.SortStableFunc(users, func(a, b userView) int { return strings.Compare(a.Username, b.Username) })
	if c.JSON {
		return printJSON(o.out, users)
	}
	if len(users) == 0 {
		fmt.Fprintln(o.out, "There are no users.")
		return nil
	}
	table := newTable(o.out, "USERNAME", "EMAIL", "STATE", "ROLE", "SUB")
	for _, u := range users {
		email, _ := u.Claims["email"].(string)
		table.row(u.Username, email, u.State, u.Role, u.Sub)
	}
	return table.Flush()
}

func (c *usersListCommand) users(ctx context.Context) ([]userView, error) {
	users := []userView{}
	connection, err := c.connection(ctx)
	if err != nil {
		return nil, err
	}
	if connection != nil {
		for user, err := range connection.AllUsers(ctx, api.List{}) {
			if err != nil {
				return nil, err
			}
			users = append(users, viewUserOfServer(&user))
		}
		return users, nil
	}
	store, _, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	err = eachUser(ctx, store, func(d *useradmin.User) { users = append(users, viewUser(d)) })
	return users, err
}

// table prints aligned columns.
type table struct{ *tabwriter.Writer }

func newTable(w io.Writer, titles ...string) table {
	t := table{tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)}
	t.row(titles...)
	return t
}

// row adds values, which are untrusted.
func (t table) row(values ...string) {
	for i, value := range values {
		if i > 0 {
			fmt.Fprint(t, "\t")
		}
		if value == "" {
			value = "-"
		}
		fmt.Fprint(t, printable(value))
	}
	fmt.Fprintln(t)
}

// oneUser selects the user that a command works on.
type oneUser struct {
	Name   string `arg:"" help:"Username, email address or sub."`
	target `embed:""`
}

// find opens the database, which the caller closes, and returns the user.
func (c *oneUser) find(ctx context.Context) (*database.Database, *useradmin.User, error) {
	store, _, err := c.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	user, err := useradmin.Find(ctx, store.Store, c.Name)
	if err != nil {
		if errors.Is(err, useradmin.ErrNotFound) {
			err = usageError{fmt.Errorf("%w: \"valetkey users list\" shows all users", err)}
		}
		return nil, nil, errors.Join(err, store.Close())
	}
	return store, user, nil
}

// changed records and prints a change of a user, and a warning if the user is declared.
func (c *oneUser) changed(ctx context.Context, o *output, store *database.Database, user *useradmin.User, kind *event.Kind, action, text string) error {
	if err := leaveEvent(ctx, store, kind, slog.String("sub", user.ID), slog.String("username", user.Username)); err != nil {
		return err
	}
	if user.Source != "" {
		fmt.Fprintf(o.log, "warning: %s is declared by the source %s, which may undo this change when its file changes or a server starts. Change the file too.\n", printable(user.Username), printable(user.Source))
	}
	if c.JSON {
		return printJSON(o.out, map[string]string{"action": action, "sub": user.ID, "username": user.Username})
	}
	fmt.Fprintf(o.out, "%s %s\n", printable(user.Username), text)
	return nil
}

type usersShowCommand struct {
	oneUser `embed:""`
}

// Help is shown by "valetkey users show --help".
func (usersShowCommand) Help() string {
	return "Example: valetkey users show ada --config valetkey.yaml"
}

// Run shows a user.
func (c *usersShowCommand) Run(ctx context.Context, o *output) error {
	done, err := c.onServer(ctx, func(connection *api.Connection, user *api.User) error {
		return c.showOfServer(ctx, o, connection, user)
	})
	if done || err != nil {
		return err
	}
	store, user, err := c.find(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	v := viewUser(user)
	v.Sessions, v.Clients = &user.Sessions, user.Clients
	if c.JSON {
		return printJSON(o.out, v)
	}
	return printMembers(o.out, v)
}

type usersDisableCommand struct {
	oneUser `embed:""`
}

// Help is shown by "valetkey users disable --help".
func (usersDisableCommand) Help() string {
	return "The user can no longer sign in, and all sessions, codes and tokens end immediately. The record and the password are kept.\n\n" +
		"Example: valetkey users disable ada --config valetkey.yaml"
}

// Run disables a user.
func (c *usersDisableCommand) Run(ctx context.Context, o *output) error {
	done, err := c.onServer(ctx, func(connection *api.Connection, user *api.User) error {
		return c.setDisabled(ctx, o, connection, user, true, "disabled", "is disabled. All sessions and tokens have ended.")
	})
	if done || err != nil {
		return err
	}
	store, user, err := c.find(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	if err := useradmin.SetDisabled(ctx, store.Store, user.ID, true); err != nil {
		return err
	}
	return c.changed(ctx, o, store, user, event.UserDisabled, "disabled", "is disabled. All sessions and tokens have ended.")
}

type usersEnableCommand struct {
	oneUser `embed:""`
}

// Help is shown by "valetkey users enable --help".
func (usersEnableCommand) Help() string {
	return "Earlier sessions and tokens stay invalid.\n\nExample: valetkey users enable ada --config valetkey.yaml"
}

// Run enables a user.
func (c *usersEnableCommand) Run(ctx context.Context, o *output) error {
	done, err := c.onServer(ctx, func(connection *api.Connection, user *api.User) error {
		return c.setDisabled(ctx, o, connection, user, false, "enabled", "can sign in again.")
	})
	if done || err != nil {
		return err
	}
	store, user, err := c.find(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	if !user.RetiredAt.IsZero() {
		return usageError{fmt.Errorf("%q is retired because its source no longer declares it: declare it there again", user.Username)}
	}
	if err := useradmin.SetDisabled(ctx, store.Store, user.ID, false); err != nil {
		return err
	}
	return c.changed(ctx, o, store, user, event.UserEnabled, "enabled", "can sign in again.")
}

type usersDeleteCommand struct {
	oneUser `embed:""`
	Yes     bool `help:"Delete the user. Without this flag, the command only shows what it would delete."`
}

// Help is shown by "valetkey users delete --help".
func (usersDeleteCommand) Help() string {
	return "Deletes the record, sessions, tokens and consents. The sub is never reused: a later account with the same username " +
		"is a different user. To keep the record, use \"valetkey users disable\".\n\n" +
		"Example: valetkey users delete ada --yes --config valetkey.yaml"
}

// Run deletes a user.
func (c *usersDeleteCommand) Run(ctx context.Context, o *output) error {
	done, err := c.onServer(ctx, func(connection *api.Connection, user *api.User) error {
		return c.deleteOnServer(ctx, o, connection, user)
	})
	if done || err != nil {
		return err
	}
	store, user, err := c.find(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	if !c.Yes {
		return usageError{fmt.Errorf("this permanently deletes %q (sub %s, %d sessions, %d applications): pass --yes to confirm, or use \"valetkey users disable\"",
			user.Username, user.ID, user.Sessions, len(user.Clients))}
	}
	if err := store.DeleteUser(ctx, user.ID); err != nil {
		return err
	}
	return c.changed(ctx, o, store, user, event.UserDeleted, "deleted", "was deleted.")
}

type usersSetPasswordCommand struct {
	oneUser `embed:""`
}

// Help is shown by "valetkey users set-password --help".
func (usersSetPasswordCommand) Help() string {
	return "Prompts for the password. If standard input is not a terminal, its first line is the password. All sessions, codes and tokens end.\n\n" +
		"For a running server, it prints a one-time link with which the user sets the password, as \"valetkey users recover\" does.\n\n" +
		"Examples:\n  valetkey users set-password ada --config valetkey.yaml\n  valetkey users set-password ada < password.txt"
}

// Run sets a user's password.
func (c *usersSetPasswordCommand) Run(ctx context.Context, o *output) error {
	done, err := c.onServer(ctx, func(connection *api.Connection, user *api.User) error {
		return c.linkOfServer(ctx, o, connection, user)
	})
	if done || err != nil {
		return err
	}
	store, user, err := c.find(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	password, err := readPassword(o)
	if err != nil {
		return err
	}
	err = useradmin.SetPassword(ctx, store.Store, user.ID, password)
	if weak, ok := errors.AsType[*identity.WeakPasswordError](err); ok {
		return usageError{weak}
	}
	if err != nil {
		return err
	}
	return c.changed(ctx, o, store, user, event.UserPasswordSet, "password_set", "has a new password. All sessions and tokens have ended.")
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/useradmin"
	"github.com/valetkey/valetkey/manage/api"
)

type revokeCommand struct {
	User   string `help:"Username or email address." required:"" placeholder:"NAME"`
	target `embed:""`
}

// Help is shown by "valetkey revoke --help".
func (revokeCommand) Help() string {
	return "Signs a user out on all devices and revokes what the user has allowed applications: refresh tokens, codes, consents, " +
		"and access tokens that are introspected or in a status list. The server can keep running.\n\n" +
		"Examples:\n  valetkey revoke --user ada --config valetkey.yaml\n  valetkey revoke --user ada --server https://login.example.com"
}

// Run revokes everything of a user.
func (c *revokeCommand) Run(ctx context.Context, o *output) error {
	connection, err := c.connection(ctx)
	if err != nil {
		return err
	}
	if connection != nil {
		err = c.revokeOnServer(ctx, connection)
	} else {
		err = c.revokeStored(ctx)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(o.out, map[string]string{"revoked": c.User})
	}
	fmt.Fprintf(o.out, "%s is signed out on all devices, and no application has access any more.\n", c.User)
	return nil
}

func (c *revokeCommand) revokeStored(ctx context.Context) error {
	store, _, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	user, err := useradmin.Find(ctx, store.Store, c.User)
	if errors.Is(err, useradmin.ErrNotFound) {
		return usageError{err}
	}
	if err != nil {
		return err
	}
	if err := useradmin.Revoke(ctx, store.Store, user.Username); err != nil {
		return err
	}
	return leaveEvent(ctx, store, event.UserRevoked, slog.String("sub", user.ID), slog.String("username", user.Username))
}

// revokeOnServer needs two permissions. Nothing happens without both.
func (c *revokeCommand) revokeOnServer(ctx context.Context, connection *api.Connection) error {
	user, err := userOfServer(ctx, connection, c.User)
	if err != nil {
		return err
	}
	if err := connection.DeleteUserGrants(ctx, user.ID, api.Change{DryRun: true}); err != nil {
		return err
	}
	// The sessions first, so that nobody who is signed in allows anything new.
	if err := connection.EndUser(ctx, user.ID, newChange()); err != nil {
		return err
	}
	return connection.DeleteUserGrants(ctx, user.ID, newChange())
}

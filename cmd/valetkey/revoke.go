package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/useradmin"
)

type revokeCommand struct {
	User           string `help:"Username or email address." required:"" placeholder:"NAME"`
	serverDatabase `embed:""`
}

// Help is shown by "valetkey revoke --help".
func (revokeCommand) Help() string {
	return "Signs a user out on all devices and revokes what the user has allowed applications: refresh tokens, codes, consents, " +
		"and access tokens that are introspected or in a status list. The server can keep running.\n\n" +
		"Example: valetkey revoke --user ada --config valetkey.yaml"
}

// Run revokes everything of a user.
func (c *revokeCommand) Run(ctx context.Context, o *output) error {
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
	if err := leaveEvent(ctx, store, event.UserRevoked, slog.String("sub", user.ID), slog.String("username", user.Username)); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(o.out, map[string]string{"revoked": c.User})
	}
	fmt.Fprintf(o.out, "%s is signed out on all devices, and no application has access any more.\n", c.User)
	return nil
}

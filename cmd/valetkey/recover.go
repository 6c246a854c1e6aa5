package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/useradmin"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/ui"
)

type usersRecoverCommand struct {
	oneUser  `embed:""`
	Lifetime time.Duration `help:"How long the link is valid." default:"24h"`
}

// Help is shown by "valetkey users recover --help".
func (usersRecoverCommand) Help() string {
	return "Prints a link for a user who has lost every way to sign in, for example the last administrator. Make sure that it reaches the right person. " +
		"Whoever opens it chooses a new password; all other ways to sign in are removed, and all sessions and tokens end. If the user had a second factor, " +
		"another one must be set up before anything else. The link works once, and not after a change of the password.\n\n" +
		"Example: valetkey users recover ada --config valetkey.yaml"
}

// maxRecovery is the longest lifetime of a recovery.
const maxRecovery = 7 * 24 * time.Hour

// Run prints the link.
func (c *usersRecoverCommand) Run(ctx context.Context, o *output) error {
	if c.Lifetime < time.Minute || c.Lifetime > maxRecovery {
		return usageError{errors.New("--lifetime must be between 1m and 168h (7 days)")}
	}
	done, err := c.onServer(ctx, func(connection *api.Connection, user *api.User) error {
		return c.linkOfServer(ctx, o, connection, user)
	})
	if done || err != nil {
		return err
	}
	config, err := c.configuration()
	if err != nil {
		return err
	}
	if config.Issuer == "" {
		return usageError{errors.New("the issuer is missing: pass the configuration file with --config, or set VALETKEY_ISSUER")}
	}
	store, user, err := c.find(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	if user.Disabled || !user.RetiredAt.IsZero() {
		return usageError{fmt.Errorf("%q is disabled or retired, and could not sign in afterwards", user.Username)}
	}
	link, err := useradmin.NewRecovery(ctx, store, &config, user, c.Lifetime, ui.RecoveryPath)
	if errors.Is(err, identity.ErrNoRecoveryLink) {
		return usageError{errors.New("recovery.operator_link is off, so only the last administrator can get a link")}
	}
	if err != nil {
		return err
	}
	if err := leaveEvent(ctx, store, event.UserRecoveryLinkCreated, slog.String("sub", user.ID), slog.String("username", user.Username)); err != nil {
		return err
	}
	return c.printLink(o, link, user.ID, user.Username, time.Now().Add(c.Lifetime))
}

type usersRemoveMethodCommand struct {
	oneUser `embed:""`
	ID      string `arg:"" help:"The id of the method or link, from \"valetkey users show\"."`
}

// Help is shown by "valetkey users remove-method --help".
func (usersRemoveMethodCommand) Help() string {
	return "Removes a passkey, an authenticator application or the recovery codes that a user has lost, or a link to a user of another provider or a directory, " +
		"unless the user could not sign in without it. All sessions, codes and tokens end. If the user then has no " +
		"second factor, another one must be set up at the next sign-in.\n\n" +
		"Example: valetkey users remove-method ada 4dUo0cVgO6cLxG1LqRfKpw --config valetkey.yaml"
}

// Run removes the method.
func (c *usersRemoveMethodCommand) Run(ctx context.Context, o *output) error {
	done, err := c.onServer(ctx, func(connection *api.Connection, user *api.User) error {
		return c.removeOnServer(ctx, o, connection, user)
	})
	if done || err != nil {
		return err
	}
	store, user, err := c.find(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	kind, err := useradmin.RemoveMethod(ctx, store.Store, user.ID, c.ID)
	if errors.Is(err, identity.ErrLastMethod) {
		return errors.New("the user could not sign in anymore: disable the user instead, or hand over a link of \"valetkey users recover\" first")
	}
	if errors.Is(err, useradmin.ErrNoMethod) {
		return usageError{fmt.Errorf("%w: \"valetkey users show %s\" lists them", err, user.Username)}
	}
	if err != nil {
		return err
	}
	err = leaveEvent(ctx, store, event.UserMethodRemoved, slog.String("sub", user.ID), slog.String("username", user.Username), slog.String("method", kind), slog.String("authenticator", c.ID))
	if err != nil {
		return err
	}
	return c.printRemoved(o, user.ID, user.Username, kind)
}

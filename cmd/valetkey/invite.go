package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/useradmin"
	"github.com/valetkey/valetkey/ui"
)

type usersInviteCommand struct {
	Email    string        `help:"Send the invitation to this address, which then counts as verified. Without it, the link is printed." placeholder:"ADDRESS"`
	Lifetime time.Duration `help:"How long the invitation is valid." default:"168h"`
	target   `embed:""`
}

// Help is shown by "valetkey users invite --help".
func (usersInviteCommand) Help() string {
	return "An invitation lets one person create an account. It works once. The configuration needs sign_up: true. If it also has " +
		"sign_up_requires: invitation, users can sign up only with an invitation.\n\n" +
		"Examples:\n  valetkey users invite --config valetkey.yaml\n  valetkey users invite --email grace@example.com --config valetkey.yaml"
}

// maxInvitation is the longest lifetime of an invitation.
const maxInvitation = 90 * 24 * time.Hour

// Run creates an invitation.
func (c *usersInviteCommand) Run(ctx context.Context, o *output) error {
	if c.Lifetime < time.Minute || c.Lifetime > maxInvitation {
		return usageError{errors.New("--lifetime must be between 1m and 2160h (90 days)")}
	}
	connection, err := c.connection(ctx)
	if err != nil {
		return err
	}
	if connection != nil {
		return c.inviteOnServer(ctx, o, connection)
	}
	config, err := c.configuration()
	if err != nil {
		return err
	}
	if config.Issuer == "" {
		return usageError{errors.New("the issuer is missing: pass the configuration file with --config, or set VALETKEY_ISSUER")}
	}
	if !config.SignUp {
		return usageError{errors.New("invitations need sign_up: true in the configuration")}
	}
	store, _, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	link, err := useradmin.Invite(ctx, store, &config, c.Email, c.Lifetime, ui.InvitationPath)
	if invalid, ok := errors.AsType[*identity.InvalidUserError](err); ok {
		return usageError{invalid}
	}
	if errors.Is(err, useradmin.ErrNoMail) {
		return usageError{err}
	}
	if err != nil {
		return err
	}
	if err := leaveEvent(ctx, store, event.UserInvited); err != nil {
		return err
	}
	return c.printLink(o, link, time.Now().Add(c.Lifetime))
}

type mailCommand struct {
	Test mailTestCommand `cmd:"" help:"Send a test message."`
}

type mailTestCommand struct {
	Address        string `arg:"" help:"The recipient."`
	serverDatabase `embed:""`
}

// Help is shown by "valetkey mail test --help".
func (mailTestCommand) Help() string {
	return "Sends a message through the mail server of the configuration at once, and prints why it was refused.\n\n" +
		"Example: valetkey mail test ada@example.com --config valetkey.yaml"
}

// Run sends a test message.
func (c *mailTestCommand) Run(ctx context.Context, o *output) error {
	store, config, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	if err := useradmin.SendTest(ctx, store, config, c.Address); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(o.out, map[string]string{"sent": c.Address})
	}
	fmt.Fprintf(o.out, "The mail server accepted a message to %s.\n", printable(c.Address))
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

type registrationCommand struct {
	Token  registrationTokenCommand  `cmd:"" help:"Create an initial access token."`
	Tokens registrationTokensCommand `cmd:"" help:"List the valid initial access tokens."`
	Revoke registrationRevokeCommand `cmd:"" help:"Revoke an initial access token."`
}

type registrationTokenCommand struct {
	Uses    int           `help:"How many clients can register with it." default:"1"`
	Expires time.Duration `help:"How long it is valid." default:"24h"`
	Note    string        `help:"A note for the list, for example who gets the token." placeholder:"TEXT"`
	target  `embed:""`
}

// Help is shown by "valetkey registration token --help".
func (registrationTokenCommand) Help() string {
	return "The configuration must contain registration: {mode: initial_access_token}. The token is shown only once: " +
		"the database stores its hash.\n\nExample: valetkey registration token --uses 10 --expires 1h --config valetkey.yaml"
}

// Run prints a new token.
func (c *registrationTokenCommand) Run(ctx context.Context, o *output) error {
	if c.Uses < 1 || c.Uses > authserver.MaxInitialAccessTokenUses || c.Expires <= 0 {
		return usageError{fmt.Errorf("--uses must be 1 to %d, and --expires must be positive", authserver.MaxInitialAccessTokenUses)}
	}
	connection, err := c.connection(ctx)
	if err != nil {
		return err
	}
	if connection != nil {
		created, err := connection.CreateInitialAccessToken(ctx, api.NewInitialAccessToken{Note: c.Note, Uses: c.Uses, ExpiresIn: record.Duration(c.Expires)}, newChange())
		if err != nil {
			return err
		}
		return c.print(o, created.Token, created.ExpiresAt)
	}
	store, _, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	now := time.Now()
	expires := now.Add(c.Expires).UTC().Truncate(time.Second)
	token, err := authserver.NewInitialAccessToken(ctx, store, now, authserver.InitialAccessToken{Note: c.Note, Uses: c.Uses, ExpiresAt: expires})
	if err != nil {
		return err
	}
	if err := leaveEvent(ctx, store, event.InitialAccessTokenCreated, slog.Int("uses", c.Uses), slog.String("note", c.Note)); err != nil {
		return err
	}
	return c.print(o, token, expires)
}

func (c *registrationTokenCommand) print(o *output, token string, expires time.Time) error {
	if c.JSON {
		return printJSON(o.out, struct {
			Token   string    `json:"initial_access_token"`
			Uses    int       `json:"uses"`
			Expires time.Time `json:"expires"`
		}{token, c.Uses, expires})
	}
	fmt.Fprintln(o.out, token)
	fmt.Fprintf(o.log, "Uses: %d. Expires at %s. The token is not shown again.\n", c.Uses, expires.Format(time.RFC3339))
	return nil
}

type registrationTokensCommand struct {
	target `embed:""`
}

// Help is shown by "valetkey registration tokens --help".
func (registrationTokensCommand) Help() string {
	return "Example: valetkey registration tokens --config valetkey.yaml"
}

// Run lists the tokens by their IDs; the tokens themselves are not stored.
func (c *registrationTokensCommand) Run(ctx context.Context, o *output) error {
	tokens, err := c.tokens(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		if tokens == nil {
			tokens = []authserver.InitialAccessToken{}
		}
		return printJSON(o.out, tokens)
	}
	if len(tokens) == 0 {
		fmt.Fprintln(o.out, "There are no initial access tokens.")
	}
	for _, t := range tokens {
		fmt.Fprintf(o.out, "%s  %d of %d left, until %s  %s\n", t.ID, t.Left, t.Uses, t.ExpiresAt.UTC().Format(time.RFC3339), printable(t.Note))
	}
	return nil
}

func (c *registrationTokensCommand) tokens(ctx context.Context) ([]authserver.InitialAccessToken, error) {
	connection, err := c.connection(ctx)
	if err != nil {
		return nil, err
	}
	if connection != nil {
		list, err := connection.InitialAccessTokens(ctx)
		if err != nil {
			return nil, err
		}
		tokens := make([]authserver.InitialAccessToken, len(list.Tokens))
		for i, t := range list.Tokens {
			tokens[i] = authserver.InitialAccessToken(t)
		}
		return tokens, nil
	}
	store, _, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	return authserver.InitialAccessTokens(ctx, store, time.Now())
}

type registrationRevokeCommand struct {
	ID     string `arg:"" help:"The ID that \"valetkey registration tokens\" shows."`
	target `embed:""`
}

// Help is shown by "valetkey registration revoke --help".
func (registrationRevokeCommand) Help() string {
	return "Clients that registered with the token are not affected.\n\nExample: valetkey registration revoke 7K3M-2QXA"
}

// Run revokes a token.
func (c *registrationRevokeCommand) Run(ctx context.Context, o *output) error {
	err := c.revoke(ctx)
	if errors.Is(err, storage.ErrNotFound) || api.StatusOf(err) == http.StatusNotFound {
		return fmt.Errorf("there is no valid initial access token %s: \"valetkey registration tokens\" lists them", c.ID)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(o.out, map[string]string{"revoked": c.ID})
	}
	fmt.Fprintln(o.out, "The token was revoked.")
	return nil
}

func (c *registrationRevokeCommand) revoke(ctx context.Context) error {
	connection, err := c.connection(ctx)
	if err != nil {
		return err
	}
	if connection != nil {
		return connection.RevokeInitialAccessToken(ctx, c.ID, newChange())
	}
	store, _, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	if err := authserver.RevokeInitialAccessToken(ctx, store, time.Now(), c.ID); err != nil {
		return err
	}
	return leaveEvent(ctx, store, event.InitialAccessTokenRevoked, slog.String("initial_access_token", c.ID))
}

package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/authserver"
)

type registrationCommand struct {
	Token registrationTokenCommand `cmd:"" help:"Make an initial access token, by which a client can register itself."`
}

type registrationTokenCommand struct {
	Uses     int           `help:"How many clients can be registered by it." default:"1"`
	Expires  time.Duration `help:"How long it is good." default:"24h"`
	Config   string        `help:"The configuration file." type:"existingfile" placeholder:"FILE"`
	Database string        `help:"sqlite:PATH or postgres://… (default: what the file or VALETKEY_DATABASE says, or sqlite:./valetkey.db)" placeholder:"URL"`
	JSON     bool          `help:"Print JSON."`
}

// Help is shown by "valetkey registration token --help".
func (registrationTokenCommand) Help() string {
	return "The configuration must say registration: {mode: initial_access_token}. The token is shown once: " +
		"the database keeps its hash.\n\nExample: valetkey registration token --uses 10 --expires 1h --config valetkey.yaml"
}

// Run prints a new token.
func (c *registrationTokenCommand) Run(ctx context.Context, o *output) error {
	configuration, err := configurationFor("")
	if c.Config != "" && err == nil {
		if configuration, err = valetkey.ReadConfiguration(c.Config); err != nil {
			return usageError{err}
		}
	}
	if err != nil {
		return err
	}
	configuration.Database = cmp.Or(c.Database, configuration.Database, valetkey.DefaultDatabase)
	if path := missingFile(configuration.Database); path != "" {
		return usageError{fmt.Errorf("there is no database at %s: say --database", path)}
	}
	if c.Uses < 1 || c.Uses > authserver.MaxInitialAccessTokenUses || c.Expires <= 0 {
		return usageError{fmt.Errorf("--uses is 1 to %d, and --expires more than nothing", authserver.MaxInitialAccessTokenUses)}
	}
	store, err := valetkey.OpenStore(ctx, &configuration, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer store.Close()
	now := time.Now()
	token, err := authserver.NewInitialAccessToken(ctx, store, now, c.Uses, c.Expires)
	if err != nil {
		return err
	}
	expires := now.Add(c.Expires).UTC().Truncate(time.Second)
	if c.JSON {
		return printJSON(o.out, struct {
			Token   string    `json:"initial_access_token"`
			Uses    int       `json:"uses"`
			Expires time.Time `json:"expires"`
		}{token, c.Uses, expires})
	}
	fmt.Fprintln(o.out, token)
	fmt.Fprintf(o.log, "Uses: %d. Good until %s. It is not shown again.\n", c.Uses, expires.Format(time.RFC3339))
	return nil
}

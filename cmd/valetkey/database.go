package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/database"
)

// serverDatabase selects the database of a server.
type serverDatabase struct {
	Config   string `help:"Configuration file that names the database." type:"existingfile" placeholder:"FILE"`
	Database string `help:"sqlite:PATH or postgres://… (default: from --config or VALETKEY_DATABASE, else sqlite:./valetkey.db)" placeholder:"URL"`
	JSON     bool   `help:"Print JSON."`
}

func (d *serverDatabase) configuration() (configuration.Configuration, error) {
	config, err := databaseOf(d.Config, d.Database)
	if err != nil {
		return config, err
	}
	if path := missingFile(config.Database); path != "" {
		return config, usageError{fmt.Errorf("there is no database at %s: pass --database, or the configuration file with --config", path)}
	}
	return config, nil
}

// databaseOf returns the configuration of a file and the environment, with the database of a flag if it is set.
func databaseOf(file, flag string) (configuration.Configuration, error) {
	config, err := configurationOf(file)
	config.Database = cmp.Or(flag, config.Database, configuration.DefaultDatabase)
	return config, err
}

// open opens the database, which the caller closes. A server may be using it.
func (d *serverDatabase) open(ctx context.Context) (*database.Database, *configuration.Configuration, error) {
	config, err := d.configuration()
	if err != nil {
		return nil, nil, err
	}
	store, err := database.Open(ctx, &config, slog.New(slog.DiscardHandler))
	return store, &config, err
}

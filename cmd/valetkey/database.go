package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"

	"github.com/valetkey/valetkey"
)

// serverDatabase is where what a server keeps is.
type serverDatabase struct {
	Config   string `help:"Configuration file, for the database and the lifetimes." type:"existingfile" placeholder:"FILE"`
	Database string `help:"sqlite:PATH or postgres://… (default: that of --config or VALETKEY_DATABASE, or sqlite:./valetkey.db)" placeholder:"URL"`
	JSON     bool   `help:"Print JSON."`
}

func (d *serverDatabase) configuration() (valetkey.Configuration, error) {
	configuration, err := configurationOf(d.Config)
	if err != nil {
		return configuration, err
	}
	configuration.Database = cmp.Or(d.Database, configuration.Database, valetkey.DefaultDatabase)
	if path := missingFile(configuration.Database); path != "" {
		return configuration, usageError{fmt.Errorf("there is no database at %s: name it with --database, or the configuration file with --config", path)}
	}
	return configuration, nil
}

// open opens the database, which the caller closes. A server may be using it.
func (d *serverDatabase) open(ctx context.Context) (*valetkey.Store, *valetkey.Configuration, error) {
	configuration, err := d.configuration()
	if err != nil {
		return nil, nil, err
	}
	store, err := valetkey.OpenStore(ctx, &configuration, slog.New(slog.DiscardHandler))
	return store, &configuration, err
}

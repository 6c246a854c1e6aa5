// Package database opens the database of a configuration, encrypted under its master key.
//
//	masterkey.go  finding the master key, or creating it
//	keycommand.go a master key that a command prints
//	backup.go     backups of SQLite databases
package database

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/storage/sqldb"
)

// Database is an open database.
type Database struct {
	*sqldb.Store
	// Secret is the secret of the engine, derived from the same master key.
	Secret []byte
}

const (
	enginePurpose = "valetkey engine"
	sealPurpose   = "valetkey seal"
)

// MailPurpose is the purpose for which Derive derives the key of mail.Config from Database.Secret.
const MailPurpose = "valetkey mail"

// Open opens the database of a configuration. It creates the master key of a new SQLite
// database.
func Open(ctx context.Context, c *configuration.Configuration, log *slog.Logger) (*Database, error) {
	if err := configuration.CheckDatabase(c.Database); err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	master, err := masterKey(c)
	if err != nil {
		return nil, err
	}
	sealing, err := Derive(master, sealPurpose)
	if err != nil {
		return nil, err
	}
	secret, err := Derive(master, enginePurpose)
	if err != nil {
		return nil, err
	}
	store, err := sqldb.Open(ctx, c.Database, sqldb.Config{
		MasterKey:          sealing,
		Logger:             log,
		InsecureConnection: c.InsecureDatabaseConnection,
		AuditOff:           c.Audit.Record == configuration.AuditOff,
	})
	if err != nil {
		return nil, err
	}
	return &Database{store, secret}, nil
}

// Check reports why Open would fail, as far as that can be known without connecting. It
// creates nothing.
func Check(c *configuration.Configuration) error {
	with := *c
	with.Database = cmp.Or(c.Database, configuration.DefaultDatabase)
	if err := configuration.CheckDatabase(with.Database); err != nil {
		return err
	}
	if err := sqldb.CheckURL(with.Database, c.InsecureDatabaseConnection); err != nil {
		return err
	}
	_, _, err := findMasterKey(&with)
	return err
}

// What Open does to a database of an older program.
type (
	Pending   = sqldb.Pending
	Migration = sqldb.Migration
	Lock      = sqldb.Lock
)

// PendingMigrations returns the migrations that Open would apply; see sqldb.PendingMigrations.
func PendingMigrations(ctx context.Context, c *configuration.Configuration) (Pending, error) {
	if err := configuration.CheckDatabase(c.Database); err != nil {
		return Pending{}, fmt.Errorf("database: %w", err)
	}
	return sqldb.PendingMigrations(ctx, c.Database, c.InsecureDatabaseConnection)
}

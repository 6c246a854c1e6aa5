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
	"sync/atomic"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/storage/sqldb"
)

// Database is an open database.
type Database struct {
	*sqldb.Store
	// Secret is the secret of the engine. It was derived from the first master key of the database, and
	// stays the same when the master key is rotated.
	Secret  []byte
	current atomic.Pointer[configured]
}

// configured is what is known of the configured master keys.
type configured struct {
	secrets    [][]byte // that are derived from them, the present one first
	previousAt string   // where the previous one comes from; "" if there is none
}

// MasterSecrets returns secrets that are derived from the configured master keys, the present one
// first. Unlike Secret, a program that has the key but not the database knows them.
func (d *Database) MasterSecrets() [][]byte { return d.current.Load().secrets }

const (
	enginePurpose = "valetkey engine"
	sealPurpose   = "valetkey seal"
)

// MailPurpose is the purpose for which Derive derives the key of mail.Config from Database.Secret.
const MailPurpose = "valetkey mail"

// MasterKeyState says what the previous master key seals.
type MasterKeyState = sqldb.MasterKeyState

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
	keys, err := newKeys(c, master)
	if err != nil {
		return nil, err
	}
	store, err := keys.open(ctx, c.Database, sqldb.Config{
		Logger:             log,
		InsecureConnection: c.InsecureDatabaseConnection,
		AuditOff:           c.Audit.Record == configuration.AuditOff,
	})
	if err != nil {
		return nil, err
	}
	d := &Database{Store: store, Secret: store.ProgramSecret()}
	d.current.Store(keys.configured(c))
	return d, nil
}

// ReloadMasterKeys reads the master keys again, and uses them if they open the database.
func (d *Database) ReloadMasterKeys(ctx context.Context, c *configuration.Configuration) error {
	master, create, err := findMasterKey(c)
	if create != "" {
		err = fmt.Errorf("there is no master key at %s", create)
	}
	if err != nil {
		return err
	}
	keys, err := newKeys(c, master)
	if err != nil {
		return err
	}
	if c.Database == "sqlite::memory:" {
		return nil // its key is nowhere else
	}
	if err := d.ReplaceMasterKeys(ctx, keys.current, keys.previous); err != nil {
		return err
	}
	d.current.Store(keys.configured(c))
	return nil
}

// keys are what is derived from the configured master keys.
type keys struct{ current, previous sqldb.MasterKey }

func newKeys(c *configuration.Configuration, master []byte) (k keys, err error) {
	if k.current, err = deriveKey(master); err != nil {
		return k, err
	}
	previous, err := previousMasterKey(c)
	if err != nil {
		return k, fmt.Errorf("previous master key: %w", err)
	}
	if previous != nil {
		k.previous, err = deriveKey(previous)
	}
	return k, err
}

func deriveKey(master []byte) (key sqldb.MasterKey, err error) {
	if key.Seal, err = Derive(master, sealPurpose); err != nil {
		return key, err
	}
	key.Secret, err = Derive(master, enginePurpose)
	return key, err
}

func (k keys) configured(c *configuration.Configuration) *configured {
	known := &configured{secrets: [][]byte{k.current.Secret}}
	if k.previous.Secret != nil {
		known.secrets = append(known.secrets, k.previous.Secret)
		known.previousAt = previousMasterKeyAt(c)
	}
	return known
}

// open opens a database with the keys.
func (k keys) open(ctx context.Context, databaseURL string, config sqldb.Config) (*sqldb.Store, error) {
	config.MasterKey, config.Secret, config.PreviousMasterKey = k.current.Seal, k.current.Secret, k.previous
	return sqldb.Open(ctx, databaseURL, config)
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
	if _, _, err := findMasterKey(&with); err != nil {
		return err
	}
	_, err := previousMasterKey(&with)
	return err
}

// What Open does to a database of an older program.
type (
	Pending   = sqldb.Pending
	Migration = sqldb.Migration
	Lock      = sqldb.Lock
)

// MasterKeys are the configured master keys, and what each of them seals.
type MasterKeys struct {
	MasterKeyState
	// PreviousAt is where the previous master key comes from; "" if there is none.
	PreviousAt string
}

// InspectMasterKeys reads what the master keys of an open database seal.
func (d *Database) InspectMasterKeys(ctx context.Context) (MasterKeys, error) {
	state, err := d.MasterKeyState(ctx)
	return MasterKeys{state, d.current.Load().previousAt}, err
}

// InspectMasterKeys reads the master keys of a configuration, and what they seal. It changes nothing. The
// error is sqldb.ErrWrongMasterKey if neither key is in force.
func InspectMasterKeys(ctx context.Context, c *configuration.Configuration) (m MasterKeys, err error) {
	with := *c
	with.Database = cmp.Or(c.Database, configuration.DefaultDatabase)
	master, create, err := findMasterKey(&with)
	if create != "" {
		err = fmt.Errorf("there is no master key at %s", create)
	}
	if err != nil {
		return m, err
	}
	keys, err := newKeys(&with, master)
	if err != nil {
		return m, err
	}
	m.PreviousAt = keys.configured(&with).previousAt
	m.MasterKeyState, err = sqldb.InspectMasterKeys(ctx, with.Database, c.InsecureDatabaseConnection, keys.current, keys.previous)
	return m, err
}

// PendingMigrations returns the migrations that Open would apply; see sqldb.PendingMigrations.
func PendingMigrations(ctx context.Context, c *configuration.Configuration) (Pending, error) {
	if err := configuration.CheckDatabase(c.Database); err != nil {
		return Pending{}, fmt.Errorf("database: %w", err)
	}
	return sqldb.PendingMigrations(ctx, c.Database, c.InsecureDatabaseConnection)
}

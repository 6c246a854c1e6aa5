// Package sqldb stores everything in one SQL database: SQLite, a file and the default, or
// PostgreSQL, which several nodes can share. It implements record.Store and identity.Store.
//
//	sqldb.go      Open, Close
//	database.go   what the two databases do differently: sqlite.go, sqlite_conn.go,
//	              sqlite_pagecache.go, sqlite_rowmemory.go with sqlite_walindex.go, rows in memory;
//	              postgres.go, postgres_pool.go, postgres_batch.go; fault.go, when it is unavailable
//	writer.go     concurrent writes of tickets share commits; batch.go, one commit; change.go, the
//	              write of one ticket; postgres_change.go, a commit in one round trip
//	tickets.go    storage.Tickets; find.go, what tickets depend on
//	catalogue.go  clients, resources, scopes and their version; keys.go
//	declare.go, declaredstate.go  what an operator declares
//	grants.go  users.go  traces.go
//	usermemory.go  users in memory
//	observed.go   what is measured
//	audit.go      audit records, in the transaction of a change; audit_chain.go, their chain;
//	              audit_query.go
//	seal.go       what is encrypted at rest; masterkey.go, under which key; rotate.go, its rotation
//	migrate.go    the schema and its versions; pending.go, what a migration would do
package sqldb

import (
	"context"
	"crypto/ed25519"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/telemetry"
	"github.com/valetkey/valetkey/storage/record"
)

var (
	_ record.Store   = (*Store)(nil)
	_ identity.Store = (*Store)(nil)
	_ audit.Log      = (*Store)(nil)
)

// Config says how a database is opened.
type Config struct {
	// MasterKey is 32 bytes that seal private keys and client secrets. All nodes of a database
	// have the same key. Without it, those secrets are lost.
	MasterKey []byte
	// Secret belongs to MasterKey; see MasterKey.Secret.
	Secret []byte
	// PreviousMasterKey is another key that may have sealed values, while the master key is being
	// rotated (RotateMasterKey).
	PreviousMasterKey MasterKey
	// InsecureConnection allows connections to PostgreSQL on another host without TLS: an
	// attacker on the network can read and change everything.
	InsecureConnection bool
	// AuditOff records nothing in the audit log.
	AuditOff bool
	// Logger receives warnings; nil means slog.Default().
	Logger *slog.Logger
}

// Store is an open database. It is safe for concurrent use, also by several processes.
type Store struct {
	database database
	writer   *writer
	users    *userMemory
	migrated []Migration
	// masterKeys open what is sealed.
	masterKeys atomic.Pointer[masterKeys]
	// programSecret is for the program that uses the store.
	programSecret []byte
	// telemetry measures the operations; nil if nothing does.
	telemetry *telemetry.Telemetry
	// fingerprintKey is the key for values that are recognized and never read.
	fingerprintKey []byte
	// auditKey authenticates audit records until they are in the chain.
	auditKey []byte
	auditOff bool
	// auditSigner signs checkpoints of the audit log.
	auditSigner ed25519.PrivateKey
}

// Open opens the database at "sqlite:PATH", "sqlite::memory:" or "postgres://…", and
// applies migrations. It rejects a database of a newer program, or one that is sealed with
// another master key, and does not change it. It creates a SQLite file if there is none. No error
// contains the URL's password.
func Open(ctx context.Context, databaseURL string, config Config) (*Store, error) {
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	keys, err := newMasterKeys(MasterKey{config.MasterKey, config.Secret}, config.PreviousMasterKey)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	s := &Store{auditOff: config.AuditOff}
	s.masterKeys.Store(&keys)
	scheme, rest, _ := strings.Cut(databaseURL, ":")
	switch {
	case scheme == "sqlite" && rest != "":
		s.database, err = openSQLite(rest, config.Logger)
	case scheme == "postgres" || scheme == "postgresql":
		s.database, err = openPostgreSQL(ctx, databaseURL, config.InsecureConnection)
	default:
		err = errors.New("open database: the URL is neither sqlite:PATH nor postgres://USER@HOST/DATABASE")
	}
	if err != nil {
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open database: %w", err), s.database.close())
	}
	s.telemetry = telemetry.Of(config.Logger)
	s.writer = newWriter(s.database, s.telemetry)
	s.database = observe(s.database, s.telemetry)
	s.telemetry.OnCollect(s.measure)
	s.users = newUserMemory(s.database, config.Logger)
	return s, nil
}

// Close waits for the writes that are in progress and closes the database. Later calls fail.
func (s *Store) Close() error {
	s.writer.close()
	if err := s.database.close(); err != nil {
		return fmt.Errorf("close database: %w", err)
	}
	return nil
}

// Ping returns an error unless the database responds and can be written to.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.database.ping(ctx); err != nil {
		return fmt.Errorf("ping database: %w", fault(err))
	}
	return nil
}

// transact calls f in a transaction and commits, or rolls back if f fails. PostgreSQL may require
// another attempt, so f must not keep results of an earlier one.
//
// Every transaction is READ COMMITTED, whatever the database's default is: the statements are
// written for that level (docs/decisions/0010).
func (s *Store) transact(ctx context.Context, f func(*sql.Tx) error) error {
	return s.transactWithin(ctx, transactTimeout, f)
}

// transactLong is transact for changes of very many rows.
func (s *Store) transactLong(ctx context.Context, f func(*sql.Tx) error) error {
	return s.transactWithin(ctx, longTransactTimeout, f)
}

func (s *Store) transactWithin(ctx context.Context, timeout time.Duration, f func(*sql.Tx) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	operation := s.telemetry.StartOperation(ctx, systemName(s.database), operationTransaction)
	defer func() { operation.End(0, err) }()
	for try := 0; ; try++ {
		err := s.database.noticed(s.transactOnce(ctx, f))
		if err == nil || try == maxRetries || !s.database.retryable(err) || ctx.Err() != nil {
			return fault(err)
		}
		backOff(try)
	}
}

func (s *Store) transactOnce(ctx context.Context, f func(*sql.Tx) error) error {
	tx, end, err := s.database.begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer end()
	err = s.database.patience(ctx, tx)
	if err == nil {
		err = f(tx)
	}
	if err != nil {
		if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
			err = fmt.Errorf("%w: %w", ended, err) // the transaction was ended by the context
		}
		if rollback := tx.Rollback(); rollback != nil && !errors.Is(rollback, sql.ErrTxDone) {
			return errors.Join(err, fmt.Errorf("roll back: %w", rollback))
		}
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

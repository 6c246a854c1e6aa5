package sqldb

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
)

//go:embed migrations
var migrations embed.FS

// prepare migrates the database to the schema of this program. It rejects a database that is
// newer, or sealed with another master key, before it changes anything.
func (s *Store) prepare(ctx context.Context) error {
	exists, err := s.database.exists(ctx, "goose_db_version")
	if err != nil {
		return fmt.Errorf("inspect database: %w", err)
	}
	files, err := fs.Sub(migrations, "migrations/"+s.database.name())
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	provider, err := s.database.migrator(files)
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	upToDate := false
	if exists {
		if upToDate, err = s.checkVersion(ctx, provider); err != nil {
			return err
		}
	}
	if exists, err = s.database.exists(ctx, "issuer"); err != nil {
		return fmt.Errorf("inspect database: %w", err)
	}
	if exists {
		if _, _, err := s.inForce(ctx, s.database.read()); err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
	}
	if !upToDate {
		err := s.database.whileMigrating(ctx, func() error { return s.migrate(ctx, provider) })
		if err != nil {
			return fmt.Errorf("migrate database: %w", err)
		}
	}
	check := (*s.masterKeys.Load())[0].seal([]byte(masterKeyCheck), checkColumn, "1")
	_, err = s.database.write().ExecContext(ctx, `INSERT INTO issuer (id, version, master_key_check) VALUES (1, 1, $1) ON CONFLICT (id) DO NOTHING`, check)
	if err != nil {
		return fmt.Errorf("store master key check: %w", err)
	}
	return s.readSecrets(ctx)
}

// Migrated returns the migrations that Open applied. Another process may have applied some at the
// same time.
func (s *Store) Migrated() []Migration { return s.migrated }

// migrate applies the missing migrations. If another process does the same at this moment, this
// one's transaction fails as a whole, and the next attempt finds nothing left to do.
func (s *Store) migrate(ctx context.Context, provider *goose.Provider) error {
	deadline := time.Now().Add(migrationPatience)
	for try := 0; ; try++ {
		results, err := provider.Up(ctx)
		var partial *goose.PartialError
		if errors.As(err, &partial) {
			results = partial.Applied
		}
		for _, r := range results {
			s.migrated = append(s.migrated, Migration{Version: r.Source.Version, Name: strings.TrimSuffix(path.Base(r.Source.Path), ".sql"), Took: r.Duration})
		}
		switch {
		case err == nil:
			return nil
		case s.database.locked(err):
			// Requests that waited behind the migration run before it is tried again.
			if time.Now().After(deadline) {
				return fmt.Errorf("another transaction has held a lock for %v, such as that of a backup; pg_stat_activity shows it: %w", migrationPatience, err)
			}
			select {
			case <-time.After(2 * migrationLockWait):
			case <-ctx.Done():
				return errors.Join(ctx.Err(), err)
			}
			try = 0
		case try == maxRetries:
			return err
		default:
			backOff(try)
		}
	}
}

// checkVersion rejects a database that is newer than the program, and reports whether there is
// nothing to migrate.
func (s *Store) checkVersion(ctx context.Context, provider *goose.Provider) (upToDate bool, err error) {
	var stored, known int64
	err = s.database.read().QueryRowContext(ctx, storedVersion).Scan(&stored)
	if err != nil {
		return false, fmt.Errorf("read schema version: %w", err)
	}
	for _, source := range provider.ListSources() {
		known = max(known, source.Version)
	}
	return stored == known, checkSchema(stored, known)
}

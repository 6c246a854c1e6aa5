package sqldb

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

//go:embed migrations
var migrations embed.FS

const (
	masterKeyColumn = "issuer.master_key_check"
	masterKeyCheck  = "valetkey master key"
)

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
		if err := s.checkMasterKey(ctx); err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
	}
	if !upToDate {
		err := s.database.whileMigrating(ctx, func() error { return migrate(ctx, provider) })
		if err != nil {
			return fmt.Errorf("migrate database: %w", err)
		}
	}
	check := s.sealer.seal([]byte(masterKeyCheck), masterKeyColumn, "1")
	_, err = s.database.write().ExecContext(ctx, `INSERT INTO issuer (id, version, master_key_check) VALUES (1, 1, $1) ON CONFLICT (id) DO NOTHING`, check)
	if err != nil {
		return fmt.Errorf("store master key check: %w", err)
	}
	return s.checkMasterKey(ctx)
}

// migrate applies the missing migrations. If another process does the same at this moment, this
// one's transaction fails as a whole, and the next attempt finds nothing left to do.
func migrate(ctx context.Context, provider *goose.Provider) error {
	for try := 0; ; try++ {
		_, err := provider.Up(ctx)
		if err == nil || try == maxRetries {
			return err
		}
		backOff(try)
	}
}

// checkVersion rejects a database that is newer than the program, and reports whether there is
// nothing to migrate.
func (s *Store) checkVersion(ctx context.Context, provider *goose.Provider) (upToDate bool, err error) {
	var stored, known int64
	err = s.database.read().QueryRowContext(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`).Scan(&stored)
	if err != nil {
		return false, fmt.Errorf("read schema version: %w", err)
	}
	for _, source := range provider.ListSources() {
		known = max(known, source.Version)
	}
	if stored > known {
		return false, fmt.Errorf("the database has schema version %d, but this program knows versions up to %d only: a newer valetkey migrated it; start that version", stored, known)
	}
	return stored == known, nil
}

func (s *Store) checkMasterKey(ctx context.Context) error {
	var check []byte
	err := s.database.read().QueryRowContext(ctx, `SELECT master_key_check FROM issuer WHERE id = 1`).Scan(&check)
	if err != nil {
		return fmt.Errorf("read master key check: %w", err)
	}
	if _, err := s.sealer.open(check, masterKeyColumn, "1"); err != nil {
		return errors.New("the master key is not the one that this database was created with; nothing was changed")
	}
	return nil
}

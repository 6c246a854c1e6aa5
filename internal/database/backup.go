package database

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/storage/sqldb"
)

// ErrPostgreSQLBackup says how a PostgreSQL database is backed up and restored.
var ErrPostgreSQLBackup = errors.New(`the database is PostgreSQL, which has its own tools:

  pg_dump --format=custom --file=FILE "$DATABASE"
  pg_restore --no-owner --exit-on-error --single-transaction --dbname="$RESTORED" FILE

docs/guides/deploy.md has the details`)

// sqliteFile returns the path of the SQLite database of a configuration.
func sqliteFile(c *configuration.Configuration) (string, error) {
	path, ok := strings.CutPrefix(c.Database, "sqlite:")
	switch {
	case !ok:
		return "", ErrPostgreSQLBackup
	case path == ":memory:":
		return "", errors.New("the database is in memory")
	}
	return path, nil
}

// BackUp copies the SQLite database of a configuration to a new file; see sqldb.BackUp.
func BackUp(ctx context.Context, c *configuration.Configuration, to string, progress func(written, size int64)) error {
	path, err := sqliteFile(c)
	if err != nil {
		return err
	}
	return sqldb.BackUp(ctx, path, to, progress)
}

// Restore puts a backup in the place of the SQLite database of a configuration. Before it changes
// anything, it checks that the backup is complete and that the master keys of the configuration open it;
// the copy that it has checked is the one that it puts in place, with the schema of this program. A
// database that is there already, even a damaged one, is replaced only with force, if no server uses it,
// and is kept under another name, which Restore returns.
func Restore(ctx context.Context, c *configuration.Configuration, backup string, force bool, now time.Time) (kept string, err error) {
	path, err := sqliteFile(c)
	if err != nil {
		return "", err
	}
	existing, err := sqldb.FirstFile(path)
	switch {
	case err != nil:
		return "", fmt.Errorf("restore: %w", err)
	case existing == path && !force:
		return "", fmt.Errorf("restore: %s exists: nothing was changed. Use --force to replace it; the present database is kept under another name", path)
	case existing != "" && !force:
		return "", fmt.Errorf("restore: %s exists, which belongs to a database that was here: nothing was changed. Move it to where the database is now, or use --force, which keeps it under another name", existing)
	}
	master, create, err := findMasterKey(c)
	switch {
	case create != "":
		return "", fmt.Errorf("restore: there is no master key at %s: put the key of the backup there first, or set %s", create, configuration.MasterKeyVariable)
	case err != nil:
		return "", fmt.Errorf("restore: %w", err)
	}
	if err := sqldb.CheckBackup(ctx, backup); err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	// A new directory has no log that an interrupted attempt left.
	directory, err := os.MkdirTemp(filepath.Dir(path), filepath.Base(path)+".restoring-*")
	if err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(directory)) }()
	copied := filepath.Join(directory, "valetkey.db")
	if err := sqldb.CopyFile(backup, copied); err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	keys, err := newKeys(c, master)
	if err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	if err := checkOpens(ctx, copied, keys); err != nil {
		return "", fmt.Errorf("restore: nothing was changed: %w", err)
	}
	if existing == "" {
		if err := sqldb.PutInPlace(copied, path); err != nil {
			return "", fmt.Errorf("restore: nothing was changed: %w", err)
		}
		return "", nil
	}
	kept, err = freeName(path + ".before-" + now.UTC().Format("20060102T150405Z"))
	if err != nil {
		return "", fmt.Errorf("restore: nothing was restored: %w", err)
	}
	if err := sqldb.Keep(ctx, path, kept); err != nil {
		return "", fmt.Errorf("restore: nothing was restored: %w", err)
	}
	if err := sqldb.Replace(copied, path); err != nil {
		return "", fmt.Errorf("restore: %w; the present database is also %s", err, kept)
	}
	return kept, nil
}

// freeName returns a name that neither a database nor its log has: the given one, or else one with a number.
// Two restores in the same second need two names.
func freeName(name string) (string, error) {
	free := name
	for n := 2; ; n++ {
		taken, err := sqldb.FirstFile(free)
		if err != nil {
			return "", err
		}
		if taken == "" {
			return free, nil
		}
		free = fmt.Sprintf("%s-%d", name, n)
	}
}

// checkOpens opens a database with master keys, which also brings it to the schema of this program, and
// leaves it as one file.
func checkOpens(ctx context.Context, path string, keys keys) error {
	store, err := keys.open(ctx, "sqlite:"+path, sqldb.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	if err := store.Close(); err != nil {
		return err
	}
	return sqldb.Release(ctx, path)
}

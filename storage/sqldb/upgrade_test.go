package sqldb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/internal/pgtest"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/storagetest"
)

// lastFree is the last migration before the first release. Later ones follow the rule of rolling
// upgrades.
const lastFree = "0010"

// TestMigrationsOnlyAdd checks the rule of rolling upgrades: nodes of the previous version keep
// running while a newer one migrates, so a migration may add tables, indexes, triggers that note
// changes, and columns that are optional or have a default. It may remove or change only what the previous version does not
// use.
func TestMigrationsOnlyAdd(t *testing.T) {
	files, err := fs.Glob(migrations, "migrations/*/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatalf("no migrations: %v", err)
	}
	for _, file := range files {
		if path.Base(file)[:4] <= lastFree {
			continue
		}
		text, err := fs.ReadFile(migrations, file)
		if err != nil {
			t.Fatal(err)
		}
		for _, problem := range breaksOldNodes(string(text)) {
			t.Errorf("%s: %s breaks nodes that still run the previous version", file, problem)
		}
	}
}

var (
	statements = regexp.MustCompile(`(?s)[^;]+`)
	// blocks are triggers and their functions, which contain semicolons.
	blocks = regexp.MustCompile(`(?s)-- \+goose StatementBegin\s+CREATE (?:TRIGGER|FUNCTION) .*?-- \+goose StatementEnd`)
)

// breaksOldNodes returns the statements of a migration that break a program of the previous
// version.
func breaksOldNodes(migration string) []string {
	migration = blocks.ReplaceAllString(migration, "")
	uncommented := regexp.MustCompile(`--[^\n]*`).ReplaceAllString(migration, "")
	var found []string
	for _, statement := range statements.FindAllString(uncommented, -1) {
		s := strings.ToUpper(strings.Join(strings.Fields(statement), " "))
		added := strings.Contains(s, " ADD COLUMN ") && (!strings.Contains(s, "NOT NULL") || strings.Contains(s, " DEFAULT "))
		switch {
		case s == "", strings.HasPrefix(s, "CREATE TABLE "), strings.HasPrefix(s, "CREATE INDEX "),
			strings.HasPrefix(s, "INSERT "), strings.HasPrefix(s, "UPDATE "),
			strings.HasPrefix(s, "ALTER TABLE ") && added:
		default:
			found = append(found, s)
		}
	}
	return found
}

func TestBreaksOldNodes(t *testing.T) {
	for migration, breaks := range map[string]bool{
		"-- +goose Up\n-- DROP nothing\nCREATE TABLE t (a TEXT);\nCREATE INDEX i ON t (a);": false,
		"ALTER TABLE users ADD COLUMN a TEXT NOT NULL DEFAULT ''":                           false,
		"ALTER TABLE users ADD COLUMN a TEXT":                                               false,
		"ALTER TABLE users ADD COLUMN a TEXT NOT NULL":                                      true,
		"ALTER TABLE users DROP COLUMN name":                                                true,
		"ALTER TABLE users RENAME COLUMN name TO title":                                     true,
		"ALTER TABLE tickets ALTER COLUMN family TYPE TEXT COLLATE \"C\"":                   true,
		"CREATE TABLE t (a TEXT);\nDROP TABLE users":                                        true,
		"CREATE UNIQUE INDEX i ON users (source)":                                           true,
		"-- +goose StatementBegin\nCREATE TRIGGER t AFTER DELETE ON users BEGIN\nINSERT INTO c VALUES (old.id);\nEND;\n-- +goose StatementEnd": false,
		"-- +goose StatementBegin\nDROP TABLE users;\n-- +goose StatementEnd":                                                                  true,
	} {
		if got := breaksOldNodes(migration); (len(got) > 0) != breaks {
			t.Errorf("%q: %v", migration, got)
		}
	}
}

// While a node runs, a newer one migrates the database. Statements that the old node prepared before
// still work.
func TestOldNodeKeepsRunningDuringAMigration(t *testing.T) {
	for name, databaseURL := range map[string]string{"SQLite": sqliteDatabase(t), "PostgreSQL": postgreSQLDatabase(t)} {
		t.Run(name, func(t *testing.T) {
			s := openTest(t, databaseURL)
			reads := func() error {
				_, noClient := s.Client(t.Context(), "missing")
				_, noTicket := s.Get(t.Context(), testNow, storage.Kind("refresh").Hash("missing"))
				_, users := s.Users(t.Context(), "", 1)
				_, keys := s.Keys(t.Context())
				return errors.Join(notMissing(noClient), notMissing(noTicket), users, keys, s.Ping(t.Context()))
			}
			if err := reads(); err != nil {
				t.Fatal(err)
			}
			if err := future(s, true); err != nil {
				t.Fatal(err)
			}
			if err := reads(); err != nil {
				t.Errorf("after the migration: %v", err)
			}
		})
	}
}

// An old node fulfills the whole contract on a database that a newer one has migrated. A node does not
// start on a newer schema version, so the template has the older one.
func TestOldNodeWorksOnANewerDatabase(t *testing.T) {
	migrate := func(databaseURL string) error {
		s, err := Open(context.Background(), databaseURL, Config{MasterKey: testMasterKey})
		if err != nil {
			return err
		}
		return errors.Join(future(s, false), s.Close())
	}
	t.Run("SQLite", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "newer.db")
		if err := migrate("sqlite:" + file); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		storagetest.Store(t, func(t *testing.T) storagetest.Database { return openTest(t, copyDatabase(t, t.TempDir(), content)) })
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		newer := pgtest.Template(migrate)
		storagetest.Store(t, func(t *testing.T) storagetest.Database { return openTest(t, newer(t)) })
	})
}

func notMissing(err error) error {
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	return err
}

// future changes a database as a migration of a later version may.
func future(s *Store, version bool) error {
	queries := []string{`CREATE TABLE future (id TEXT PRIMARY KEY)`}
	if version {
		queries = append(queries, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (4711, TRUE)`)
	}
	for _, table := range []string{"issuer", "users", "clients", "scopes", "resources", "keys", "grants", "tickets", "outbox", "mail_outbox", "counts", "declared_versions", "traces", "user_changes", "uses"} {
		queries = append(queries, `ALTER TABLE `+table+` ADD COLUMN future TEXT NOT NULL DEFAULT 'x'`)
	}
	for _, query := range append(queries, `CREATE INDEX users_future ON users (future)`) {
		if _, err := s.database.write().Exec(query); err != nil {
			return fmt.Errorf("%s: %w", query, err)
		}
	}
	return nil
}

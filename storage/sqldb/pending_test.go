package sqldb

import (
	"context"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/valetkey/valetkey/internal/pgtest"
)

// olderVersion is a schema version before most migrations.
const olderVersion = 12

// older creates the schema of an older version in an empty database.
func older(t *testing.T, databaseURL string) string {
	t.Helper()
	var d database
	var err error
	if path, ok := strings.CutPrefix(databaseURL, "sqlite:"); ok {
		d, err = openSQLite(path, nil)
	} else {
		d, err = openPostgreSQL(t.Context(), databaseURL, false)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	files, err := fs.Sub(migrations, "migrations/"+d.name())
	if err != nil {
		t.Fatal(err)
	}
	provider, err := d.migrator(files)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.UpTo(t.Context(), olderVersion); err != nil {
		t.Fatal(err)
	}
	return databaseURL
}

func names(migrations []Migration) (all []string) {
	for _, m := range migrations {
		all = append(all, m.Name)
	}
	return all
}

func TestPendingMigrationsAreThoseThatOpenApplies(t *testing.T) {
	for name, empty := range map[string]string{"SQLite": sqliteURL(t), "PostgreSQL": pgtest.Database(t)} {
		t.Run(name, func(t *testing.T) {
			at := older(t, empty)
			pending, err := PendingMigrations(t.Context(), at, false)
			if err != nil || pending.LocksUnknown != nil {
				t.Fatal(err, pending.LocksUnknown)
			}
			// Nothing was changed, so the next call finds the same.
			again, err := PendingMigrations(t.Context(), at, false)
			if err != nil || !reflect.DeepEqual(names(again.Migrations), names(pending.Migrations)) {
				t.Errorf("the second call: %v, %v", names(again.Migrations), err)
			}
			if path, ok := strings.CutPrefix(at, "sqlite:"); ok {
				if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
					t.Errorf("the dry run left %v", left)
				}
			}
			s := openTest(t, at)
			if !reflect.DeepEqual(names(s.Migrated()), names(pending.Migrations)) || len(pending.Migrations) < 6 {
				t.Errorf("Open applied %v, not %v", names(s.Migrated()), names(pending.Migrations))
			}
			if _, ok := s.database.(*postgreSQL); ok {
				if exists, err := s.database.exists(t.Context(), rehearsalSchema+".users"); err != nil || exists {
					t.Errorf("the dry run left a schema (%v)", err)
				}
			}
			none, err := PendingMigrations(t.Context(), at, false)
			if err != nil || len(none.Migrations) > 0 {
				t.Errorf("afterwards: %v, %v", names(none.Migrations), err)
			}
			if _, err := s.database.write().Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (4711, TRUE)`); err != nil {
				t.Fatal(err)
			}
			if _, err := PendingMigrations(t.Context(), at, false); err == nil || !strings.Contains(err.Error(), "start that version") {
				t.Errorf("a newer database: %v", err)
			}
		})
	}
}

// A dry run waits for no writer, and no writer waits for it, whatever the migrations lock.
func TestPendingMigrationsDoNotTouchTheTablesInUse(t *testing.T) {
	t.Run("PostgreSQL", func(t *testing.T) {
		at := older(t, pgtest.Database(t))
		conn := connect(t, at)
		if _, err := conn.Exec(t.Context(), `BEGIN; LOCK TABLE users, clients, tickets, grants IN EXCLUSIVE MODE`); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		pending, err := PendingMigrations(ctx, at, false)
		if err != nil {
			t.Fatal(err)
		}
		locks := map[string]Lock{}
		for _, m := range pending.Migrations {
			for _, lock := range m.Locks {
				locks[m.Name+" "+lock.Table] = lock
			}
		}
		if got := locks["0024_user_codes users"]; got.Mode != "ACCESS EXCLUSIVE" || got.Waits != "reads and writes" || got.Rewritten || got.Bytes == 0 {
			t.Errorf("a new column of users: %+v", got)
		}
		if got := locks["0020_external_users users"]; got.Mode != "ACCESS EXCLUSIVE" {
			t.Errorf("a new column and a foreign key: %+v", got)
		}
		if got := locks["0026_audit audit_records"]; got.Mode != "" {
			t.Errorf("a new table: %+v", got)
		}
	})
	t.Run("SQLite", func(t *testing.T) {
		at := older(t, sqliteURL(t))
		db, err := openFile(strings.TrimPrefix(at, "sqlite:"))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Exec(`BEGIN IMMEDIATE`); err != nil { // like a server that writes
			t.Fatal(err)
		}
		pending, err := PendingMigrations(t.Context(), at, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range pending.Migrations {
			if len(m.Locks) != 1 || m.Locks[0].Waits != "writes" || m.Took <= 0 {
				t.Errorf("%s: %+v, %v", m.Name, m.Locks, m.Took)
			}
		}
	})
}

func TestLocksOfMigrationsAreObserved(t *testing.T) {
	at := pgtest.Database(t)
	config, err := postgreSQLConfig(at, false)
	if err != nil {
		t.Fatal(err)
	}
	applied := []Migration{{SQL: `CREATE TABLE users (id BIGINT PRIMARY KEY, name TEXT, source TEXT); CREATE TABLE other (id TEXT);`}}
	pending := []Migration{
		{SQL: `CREATE INDEX users_source ON users (source); CREATE INDEX users_name ON users (name);`},
		{SQL: `ALTER TABLE users ALTER COLUMN name TYPE VARCHAR(5);`},
		{SQL: `CREATE TABLE authenticators (user_id BIGINT REFERENCES users (id));`},
		{SQL: "-- a comment; with a semicolon\nUPDATE users SET name = '';"},
		{SQL: `CREATE TABLE unrelated (id TEXT);`},
	}
	if err := rehearse(t.Context(), config.ConnConfig, connect(t, at), applied, pending); err != nil {
		t.Fatal(err)
	}
	for i, want := range [][]Lock{
		{{Table: "users", Mode: "SHARE", Waits: "writes", Indexes: []string{"users_name", "users_source"}}},
		{{Table: "users", Mode: "ACCESS EXCLUSIVE", Waits: "reads and writes", Rewritten: true}},
		{{Table: "users", Mode: "SHARE ROW EXCLUSIVE", Waits: "writes"}},
		{{Table: "users", Mode: "ROW EXCLUSIVE"}},
		nil,
	} {
		if !reflect.DeepEqual(pending[i].Locks, want) {
			t.Errorf("%s\n%+v, want %+v", pending[i].SQL, pending[i].Locks, want)
		}
	}
}

// A role that owns the tables can migrate, and may not be able to create a schema.
func TestPendingMigrationsWithoutTheRightToCreateASchema(t *testing.T) {
	at := older(t, pgtest.Database(t))
	owner := connect(t, at)
	role := "reader_" + filepath.Base(owner.Config().Database)
	for _, query := range []string{`CREATE ROLE ` + role, `GRANT SELECT ON ALL TABLES IN SCHEMA public TO ` + role} {
		if _, err := owner.Exec(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if _, err := owner.Exec(context.Background(), `DROP OWNED BY `+role+`; DROP ROLE `+role); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Set("role", role)
	u.RawQuery = query.Encode()
	pending, err := PendingMigrations(t.Context(), u.String(), false)
	if err != nil || pending.LocksUnknown == nil || len(pending.Migrations) < 6 || pending.Migrations[0].SQL == "" {
		t.Errorf("%d migrations, %v, %v", len(pending.Migrations), pending.LocksUnknown, err)
	}
}

// A dump reads all tables, which may take hours. A migration that waits for it would make every request
// wait behind itself.
func TestAMigrationThatWaitsForABackupDoesNotHoldUpRequests(t *testing.T) {
	at := older(t, pgtest.Database(t))
	dump, node := connect(t, at), connect(t, at)
	if _, err := dump.Exec(t.Context(), `BEGIN; LOCK TABLE users IN ACCESS SHARE MODE`); err != nil {
		t.Fatal(err)
	}
	opened := make(chan error, 1)
	go func() {
		s, err := Open(t.Context(), at, Config{MasterKey: testMasterKey})
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	// Wait until the migration waits for the dump.
	for waiting := false; !waiting; {
		if err := node.QueryRow(t.Context(), `SELECT count(*) > 0 FROM pg_locks, pg_sleep(0.01) WHERE relation = 'users'::regclass AND NOT granted`).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	began := time.Now()
	if _, err := node.Exec(ctx, `SELECT count(*) FROM users`); err != nil {
		t.Fatalf("a request while a migration waits: %v", err)
	}
	t.Logf("a request waited %v", time.Since(began))
	if _, err := dump.Exec(t.Context(), `COMMIT`); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Errorf("after the backup: %v", err)
	}
}

func connect(t *testing.T, databaseURL string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// The texts that a dry run prints and tries are those that are applied.
func TestPlainSQLHasNoAnnotations(t *testing.T) {
	for _, name := range []string{"sqlite", "postgres"} {
		all, err := migrationsOf(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range all {
			text, err := os.ReadFile(filepath.Join("migrations", name, m.Name+".sql"))
			if err != nil || strings.Contains(m.SQL, "goose") || strings.Contains(string(text), "+goose Down") || len(m.SQL) < len(text)/2 {
				t.Errorf("%s: %v\n%s", m.Name, err, m.SQL)
			}
		}
	}
}

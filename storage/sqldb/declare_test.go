package sqldb

import (
	"io/fs"
	"testing"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/pgtest"
	"github.com/valetkey/valetkey/storage/declaration"
)

// A database of a version that did not store the origin of users.
func TestMigrationFindsTheOriginOfUsers(t *testing.T) {
	for name, at := range map[string]func(*testing.T) string{
		"SQLite":     func(t *testing.T) string { return sqliteURL(t) },
		"PostgreSQL": func(t *testing.T) string { return pgtest.Database(t) },
	} {
		t.Run(name, func(t *testing.T) {
			databaseURL := at(t)
			s := &Store{}
			var err error
			if name == "SQLite" {
				s.database, err = openSQLite(databaseURL[len("sqlite:"):], nil)
			} else {
				s.database, err = openPostgreSQL(t.Context(), databaseURL, false)
			}
			if err != nil {
				t.Fatal(err)
			}
			files, err := fs.Sub(migrations, "migrations/"+s.database.name())
			if err != nil {
				t.Fatal(err)
			}
			provider, err := s.database.migrator(files)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := provider.UpTo(t.Context(), 5); err != nil {
				t.Fatal(err)
			}
			for _, u := range []struct {
				id, password, declared, source string
				administrator                  bool
			}{
				{"by a file", "hash", "hash", "file:valetkey.yaml", false},
				{"by apply", "hash", "hash", "", true},
				{"by apply, without a password", "", "", "", false},
				{"the first administrator", "hash", "", "", true},
				{"signed up", "hash", "", "", false},
			} {
				_, err := s.database.write().ExecContext(t.Context(), `INSERT INTO users (id, username, password_hash, declared_password, claims, disabled, administrator, created, updated, source)
					VALUES ($1, $1, $2, $3, '{}', $4, $5, 0, 0, $6)`, u.id, u.password, u.declared, false, u.administrator, u.source)
				if err != nil {
					t.Fatal(err)
				}
			}
			if err := s.database.close(); err != nil {
				t.Fatal(err)
			}
			store := openTest(t, databaseURL)
			for id, want := range map[string]string{
				"by a file": identity.OriginDeclared, "by apply": identity.OriginDeclared, "by apply, without a password": identity.OriginDeclared,
				"the first administrator": identity.OriginSetup, "signed up": identity.OriginSignedUp,
			} {
				if user, err := store.User(t.Context(), id); err != nil || user.Origin != want {
					t.Errorf("%s: %+v (%v)", id, user, err)
				}
			}
		})
	}
}

// It waits longer than other transactions wait for a lock.
func TestDeclareWaitsForALongDeclarationOfAnotherNode(t *testing.T) {
	s := openTest(t, pgtest.Database(t))
	tx, err := s.database.write().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := lockCatalogue(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	released := make(chan error, 1)
	time.AfterFunc(lockPatience+lockPatience/4, func() { released <- tx.Rollback() })
	if err := s.Declare(t.Context(), time.Now(), "file", declaration.Declaration{Users: []identity.User{{Username: "ada"}}}); err != nil {
		t.Errorf("a declaration during a long one: %v", err)
	}
	if err := <-released; err != nil {
		t.Error(err)
	}
}

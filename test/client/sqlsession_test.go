package client_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/valetkey/valetkey/internal/pgtest"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/oauth/client/sessiontest"
	"github.com/valetkey/valetkey/oauth/client/sqlsession"
)

func openDB(t *testing.T, driver, source string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func sqlite(t *testing.T) *sql.DB {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sessions.db")
	return openDB(t, "sqlite", "file:"+path+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_txlock=immediate")
}

func newStore(t *testing.T, config sqlsession.Config) *sqlsession.Store {
	t.Helper()
	if config.Key == nil {
		config.Key = bytes.Repeat([]byte{1}, 32)
	}
	store, err := sqlsession.New(config)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // each process of an application calls it
		if err := store.CreateTable(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return store
}

// databases runs a test with each kind of database.
func databases(t *testing.T, run func(t *testing.T, dialect sqlsession.Dialect, db func(t *testing.T) *sql.DB)) {
	t.Run("SQLite", func(t *testing.T) { run(t, sqlsession.SQLite, sqlite) })
	t.Run("PostgreSQL", func(t *testing.T) {
		run(t, sqlsession.PostgreSQL, func(t *testing.T) *sql.DB { return openDB(t, "pgx", pgtest.Database(t)) })
	})
	t.Run("PostgreSQL, serializable", func(t *testing.T) {
		run(t, sqlsession.PostgreSQL, func(t *testing.T) *sql.DB {
			db := openDB(t, "pgx", pgtest.Database(t))
			var name string
			if err := db.QueryRowContext(t.Context(), "SELECT current_database()").Scan(&name); err != nil {
				t.Fatal(err)
			}
			if _, err := db.ExecContext(t.Context(), fmt.Sprintf("ALTER DATABASE %q SET default_transaction_isolation = 'serializable'", name)); err != nil {
				t.Fatal(err)
			}
			db.SetMaxIdleConns(0) // closes the connection that has the old setting
			return db
		})
	})
}

func TestStore(t *testing.T) {
	databases(t, func(t *testing.T, dialect sqlsession.Dialect, db func(t *testing.T) *sql.DB) {
		shared := db(t)
		n := 0
		sessiontest.Run(t, func(t *testing.T) client.SessionStore {
			n++
			return newStore(t, sqlsession.Config{DB: shared, Dialect: dialect, Table: fmt.Sprint("sessions_", n)})
		})
	})
}

// dump returns the contents of the table.
func dump(t *testing.T, db *sql.DB) string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "SELECT id, issuer, subject, sid, expires, version, sealed FROM relying_party_sessions")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all strings.Builder
	for rows.Next() {
		var row [7]sql.RawBytes
		if err := rows.Scan(&row[0], &row[1], &row[2], &row[3], &row[4], &row[5], &row[6]); err != nil {
			t.Fatal(err)
		}
		for _, field := range row {
			all.Write(field)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all.String()
}

func TestSessionsAreEncryptedAtRest(t *testing.T) {
	databases(t, func(t *testing.T, dialect sqlsession.Dialect, open func(t *testing.T) *sql.DB) {
		db := open(t)
		store := newStore(t, sqlsession.Config{DB: db, Dialect: dialect})
		s := sessiontest.Session()
		if err := store.Put(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		stored := dump(t, db)
		for name, secret := range map[string]string{
			"access token": s.Tokens.AccessToken, "refresh token": s.Tokens.RefreshToken, "ID token": s.Tokens.IDToken, "claims": `"name"`, "data": "editor",
		} {
			if strings.Contains(stored, secret) {
				t.Errorf("the database contains the %s in plain text", name)
			}
		}
		if !strings.Contains(stored, s.Subject) { // otherwise the test reads the wrong table
			t.Error("the row is missing")
		}
		// A session cannot be decrypted in another row, so that write access to the database
		// is not enough to give one user's session to another.
		other := sessiontest.Session()
		if err := store.Put(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		if _, err := db.ExecContext(t.Context(), "UPDATE relying_party_sessions SET sealed = (SELECT sealed FROM relying_party_sessions WHERE id = '"+s.ID+"') WHERE id = '"+other.ID+"'"); err != nil {
			t.Fatal(err)
		}
		if got, err := store.Get(t.Context(), other.ID); err == nil {
			t.Errorf("another row's session was decrypted: %v", got.Subject)
		}
	})
}

func TestKeysCanBeReplaced(t *testing.T) {
	db := sqlite(t)
	first, second := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	s := sessiontest.Session()
	if err := newStore(t, sqlsession.Config{DB: db, Dialect: sqlsession.SQLite, Key: first}).Put(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	both := newStore(t, sqlsession.Config{DB: db, Dialect: sqlsession.SQLite, Key: second, OlderKeys: [][]byte{first}})
	got, err := both.Get(t.Context(), s.ID)
	if err != nil || got == nil {
		t.Fatalf("with the older key: %v", err)
	}
	after := newStore(t, sqlsession.Config{DB: db, Dialect: sqlsession.SQLite, Key: second})
	if _, err := after.Get(t.Context(), s.ID); err == nil {
		t.Error("decrypted without its key")
	}
	if ok, err := both.Replace(t.Context(), got); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if got, err := after.Get(t.Context(), s.ID); err != nil || got == nil {
		t.Errorf("a session that was stored again is not encrypted with the new key: %v", err)
	}
}

func TestExpiredSessionsAreRemoved(t *testing.T) {
	databases(t, func(t *testing.T, dialect sqlsession.Dialect, open func(t *testing.T) *sql.DB) {
		db := open(t)
		store := newStore(t, sqlsession.Config{DB: db, Dialect: dialect})
		rows := func() (n int) {
			if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM relying_party_sessions").Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		}
		old := func() {
			s := sessiontest.Session()
			s.Expires = time.Now().Add(-time.Minute)
			if err := store.Put(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		for range 300 {
			old()
		}
		if n := rows(); n > 200 {
			t.Errorf("%d of 300 expired sessions were not removed", n)
		}
		if err := store.Put(t.Context(), sessiontest.Session()); err != nil {
			t.Fatal(err)
		}
		old()
		if removed, err := store.DeleteExpired(t.Context()); err != nil || removed == 0 || rows() != 1 {
			t.Errorf("%d removed, %d left, %v", removed, rows(), err)
		}
	})
}

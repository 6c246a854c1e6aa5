package pgtest

import (
	"net/url"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestDatabase(t *testing.T) {
	var first string
	t.Run("is new and empty", func(t *testing.T) {
		first = Database(t)
		conn, err := pgx.Connect(t.Context(), first)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		if _, err := conn.Exec(t.Context(), `CREATE TABLE mine (id INT)`); err != nil {
			t.Error(err)
		}
		if other := Database(t); other == first {
			t.Error("two calls return the same database")
		}
	})
	if first == "" {
		t.Skip("PostgreSQL is not installed")
	}
	if conn, err := pgx.Connect(t.Context(), first); err == nil {
		conn.Close(t.Context())
		u, _ := url.Parse(first)
		t.Errorf("%s still exists after its test", u.Path)
	}
}

func TestTemplateIsCopied(t *testing.T) {
	prepared := 0
	database := Template(func(databaseURL string) error {
		prepared++
		at, err := url.Parse(databaseURL)
		if err != nil {
			return err
		}
		return run(t.Context(), at, `CREATE TABLE rows (id INTEGER)`)
	})
	for range 2 {
		at, err := url.Parse(database(t))
		if err != nil {
			t.Fatal(err)
		}
		if os.Getenv(Variable) != "" {
			t.Skip("databases are empty")
		}
		// The table exists, and each copy has its own.
		if err := run(t.Context(), at, `ALTER TABLE rows ADD COLUMN added INTEGER`); err != nil {
			t.Error(err)
		}
	}
	if prepared != 1 {
		t.Errorf("prepared %d times", prepared)
	}
}

package pgtest

import (
	"net/url"
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

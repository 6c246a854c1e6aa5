package sqldb

import (
	"fmt"
	"testing"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/storage"
)

// The space of expired tickets is used again: a database does not grow with the number of code
// flows, only with those that are live at the same time.
func TestExpiredTicketsLeaveTheirSpace(t *testing.T) {
	const rounds, flows = 10, 500
	for name, test := range map[string]struct {
		database func(testing.TB) string
		size     string
	}{
		"SQLite": {sqliteDatabase, `SELECT page_count FROM pragma_page_count`},
		// Autovacuum does this once a minute.
		"PostgreSQL": {postgreSQLDatabase, `SELECT pg_total_relation_size('tickets') / current_setting('block_size')::int`},
	} {
		t.Run(name, func(t *testing.T) {
			s := openTest(t, test.database(t))
			pages := func() (n int) {
				t.Helper()
				if name == "PostgreSQL" {
					if _, err := s.database.write().Exec(`VACUUM tickets`); err != nil {
						t.Fatal(err)
					}
				}
				if err := s.database.write().QueryRow(test.size).Scan(&n); err != nil {
					t.Fatal(err)
				}
				return n
			}
			now, early := testNow, 0
			for round := range rounds {
				var tickets []storage.Ticket
				for i := range flows {
					name := fmt.Sprint(round, " ", i)
					code := storage.Ticket{Key: ticketkind.Code.Hash(name), Grant: fmt.Sprint("grant ", i), Family: "family " + name, Data: make([]byte, 400), Expires: now.Add(time.Minute)}
					refresh := code
					refresh.Key, refresh.Expires = ticketkind.RefreshToken.Hash(name), now.Add(time.Hour)
					tickets = append(tickets, code, refresh)
				}
				for from := 0; from < len(tickets); from += 500 {
					if err := s.Put(t.Context(), now, tickets[from:from+500]...); err != nil {
						t.Fatal(err)
					}
				}
				now = now.Add(2 * time.Hour)
				if removed, err := s.Reclaim(t.Context(), now); err != nil || removed != len(tickets) {
					t.Fatalf("removed %d of %d: %v", removed, len(tickets), err)
				}
				// PostgreSQL uses pages of indexes again after the second VACUUM.
				if n := pages(); round == 3 {
					early = n
				}
			}
			// Some pages are split differently in each round.
			if late := pages(); late > early+early/10 {
				t.Errorf("the database has %d pages after %d rounds, and %d after four", late, rounds, early)
			} else {
				t.Logf("%d pages after four rounds, %d after %d", early, late, rounds)
			}
		})
	}
}

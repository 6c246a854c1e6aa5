package sqldb

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/valetkey/valetkey/internal/pgtest"
	"github.com/valetkey/valetkey/storage"
)

// Reads of concurrent callers share a round trip, and each caller gets its own result: also if the
// server refuses the query of another one, or another one gives up.
func TestConcurrentReadsShareARoundTrip(t *testing.T) {
	databaseURL := postgreSQLDatabase(t)
	for name, at := range map[string]string{"direct": databaseURL, "PgBouncer": pgtest.PgBouncer(t, databaseURL)} {
		t.Run(name, func(t *testing.T) {
			s := openTest(t, at)
			count := countTurns(t, s)
			d := s.database.(*postgreSQL)
			const callers = 40
			ticket := func(i int) storage.Ticket {
				return storage.Ticket{Key: storage.Kind("code").Hash(fmt.Sprint(t.Name(), i)), Data: fmt.Append(nil, i), Expires: testNow.Add(time.Hour)}
			}
			for i := range callers {
				if err := s.Put(t.Context(), testNow, ticket(i)); err != nil {
					t.Fatal(err)
				}
			}
			read := func(i int) {
				found, err := s.Get(t.Context(), testNow, ticket(i).Key)
				if err != nil || string(found.Data) != fmt.Sprint(i) {
					t.Errorf("ticket %d: %s, %v", i, found.Data, err)
				}
			}
			read(0) // prepares the statement

			// While the only connection is in use, callers wait.
			held, err := d.pool.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var working sync.WaitGroup
			wait := func(until int) {
				for waiting := -1; waiting < until; time.Sleep(time.Millisecond) {
					d.reads.mu.Lock()
					waiting = len(d.reads.waiting) + d.reads.running
					d.reads.mu.Unlock()
				}
			}
			for i := range callers / 2 {
				working.Go(func() { read(i) })
			}
			wait(callers / 2)
			working.Go(func() {
				err := d.byKey(t.Context(), func(postgreSQLRow) error { return nil }, `SELECT 1 / $1::bigint`, int64(0))
				if refused, ok := errors.AsType[*pgconn.PgError](err); !ok || refused.Code != divisionByZero {
					t.Errorf("the refused query: %v", err)
				}
			})
			wait(callers/2 + 1)
			canceled, cancel := context.WithCancel(t.Context())
			working.Go(func() {
				if _, err := s.Get(canceled, testNow, ticket(0).Key); !errors.Is(err, context.Canceled) {
					t.Errorf("the canceled read: %v", err)
				}
			})
			wait(callers/2 + 2)
			for i := callers / 2; i < callers; i++ {
				working.Go(func() { read(i) })
			}
			wait(callers + 2)
			cancel()
			before := count.Load()
			held.Release()
			working.Wait()

			// Those after the refused query were sent again, alone.
			if n := count.Load() - before; n > callers/2+10 {
				t.Errorf("%d reads took %d round trips", callers, n)
			}
			d.reads.mu.Lock()
			defer d.reads.mu.Unlock()
			if d.reads.running != 0 || len(d.reads.waiting) != 0 {
				t.Errorf("%d batches are running and %d queries wait", d.reads.running, len(d.reads.waiting))
			}
		})
	}
}

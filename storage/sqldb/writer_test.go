package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/valetkey/valetkey/storage"
)

// A caller that gives up gets an error and does not delay others.
func TestCallerMayGiveUp(t *testing.T) {
	onBoth(t, func(t *testing.T, databaseURL string) {
		s := openTest(t, databaseURL)
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		ticket := storage.Ticket{Key: storage.Kind("code").Hash("a"), Expires: testNow.Add(time.Hour)}
		if err := s.Put(gone, testNow, ticket); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if _, err := s.Get(gone, testNow, ticket.Key); !errors.Is(err, context.Canceled) {
			t.Errorf("Get: %v", err)
		}
		other := storage.Ticket{Key: storage.Kind("code").Hash("b"), Expires: testNow.Add(time.Hour)}
		if err := s.Put(t.Context(), testNow, other); err != nil {
			t.Error(err)
		}
	})
}

func TestRE12_DeadlockIsTriedAgain(t *testing.T) {
	databaseURL := postgreSQLDatabase(t)
	s := openTest(t, databaseURL)
	a := storage.Ticket{Key: storage.Kind("code").Hash("a"), Expires: testNow.Add(time.Hour)}
	b := storage.Ticket{Key: storage.Kind("code").Hash("b"), Expires: testNow.Add(time.Hour)}
	if err := s.Put(t.Context(), testNow, a, b); err != nil {
		t.Fatal(err)
	}
	other, err := pgx.Connect(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(context.Background())
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := other.Exec(t.Context(), query, args...); err != nil {
			t.Fatal(err)
		}
	}
	// The transaction that detects the deadlock is aborted. This one must not be: it detects too late.
	exec(`SET deadlock_timeout = '1h'`)
	const touch = `UPDATE tickets SET data = data WHERE id = $1`
	exec(`BEGIN`)
	exec(touch, b.ID[:])
	spent := make(chan error, 1)
	go func() { spent <- s.Spend(t.Context(), testNow, []storage.Key{a.Key, b.Key}) }()
	for waiting := 0; waiting == 0; {
		err := other.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting)
		if err != nil {
			t.Fatal(err)
		}
	}
	exec(touch, a.ID[:]) // completes the deadlock, and returns when the store's transaction was aborted
	exec(`COMMIT`)
	if err := <-spent; err != nil {
		t.Errorf("Spend after a deadlock: %v", err)
	}
}

// If the database rejects one operation of a batch, the others succeed.
func TestFailureOfOneCallerDoesNotAffectOthers(t *testing.T) {
	onBoth(t, func(t *testing.T, databaseURL string) {
		s := openTest(t, databaseURL)
		if _, err := s.database.write().Exec(`CREATE UNIQUE INDEX only_one ON tickets (family) WHERE family = 'unique'`); err != nil {
			t.Fatal(err)
		}
		put := func(i int) *operation {
			key := storage.Kind("code").Hash(fmt.Sprint(i))
			family := fmt.Sprint(i)
			if i%3 == 0 {
				family = "unique"
			}
			return &operation{result: make(chan error, 1), put: []change{{ticket: storage.Ticket{Key: key, Family: family, Expires: testNow.Add(time.Hour)}, at: testNow.UnixMilli()}}}
		}
		var batch []*operation
		for i := range 9 {
			batch = append(batch, put(i))
		}
		s.writer.commit(batch)
		refused := 0
		for i, op := range batch {
			err := <-op.result
			if err != nil {
				refused++
			}
			if i%3 != 0 && err != nil {
				t.Errorf("operation %d: %v", i, err)
			}
			_, getErr := s.Get(t.Context(), testNow, storage.Kind("code").Hash(fmt.Sprint(i)))
			if (err == nil) != (getErr == nil) {
				t.Errorf("operation %d returned %v, and Get of its ticket %v", i, err, getErr)
			}
		}
		if refused != 2 {
			t.Errorf("%d operations were rejected, want 2", refused)
		}
	})
}

func TestSG14_ReclaimDoesNotBlockOthersForLong(t *testing.T) {
	onBoth(t, func(t *testing.T, databaseURL string) {
		s := openTest(t, databaseURL)
		for i := range 10 {
			var batch []storage.Ticket
			for k := range 1000 {
				batch = append(batch, storage.Ticket{Key: storage.Kind("code").Hash(fmt.Sprint(i, " ", k)), Family: fmt.Sprint(i, k), Grant: fmt.Sprint(k), Data: make([]byte, 300), Expires: testNow.Add(time.Minute)})
			}
			if err := s.Put(t.Context(), testNow, batch...); err != nil {
				t.Fatal(err)
			}
		}
		from := time.Now()
		removed, err := s.Reclaim(t.Context(), testNow.Add(time.Minute))
		if err != nil || removed != 10_000 {
			t.Fatalf("removed %d, %v", removed, err)
		}
		// Twenty transactions of about 50 ms; the limit allows for a slow machine.
		t.Logf("%v for each transaction", time.Since(from)/20)
		if each := time.Since(from) / 20; each > 500*time.Millisecond {
			t.Errorf("each transaction took %v", each)
		}
		var n int
		if err := s.database.read().QueryRowContext(t.Context(), `SELECT count(*) FROM tickets`).Scan(&n); err != nil || n != 0 {
			t.Errorf("%d rows left, %v", n, err)
		}
	})
}

// A transaction that takes longer than a batch does not make requests fail. One that takes very
// long fails those that wait, all at the same time, and no write is lost or done twice.
func TestSQLiteBatchesWaitForALongTransaction(t *testing.T) {
	for name, test := range map[string]struct {
		lasts time.Duration
		want  error
	}{
		"long":      {batchTimeout + time.Second, nil},
		"very long": {time.Minute, storage.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, err := Open(t.Context(), sqliteURL(t), Config{MasterKey: testMasterKey})
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				long := make(chan error, 1)
				began := time.Now()
				go func() {
					long <- s.transactLong(t.Context(), func(*sql.Tx) error { time.Sleep(test.lasts); return nil })
				}()
				synctest.Wait()
				var all sync.WaitGroup
				for i := range 20 {
					all.Go(func() {
						ticket := storage.Ticket{Key: storage.Kind("code").Hash(fmt.Sprint(i)), Expires: began.Add(time.Hour)}
						if err := s.Put(t.Context(), began, ticket); !errors.Is(err, test.want) {
							t.Errorf("Put: %v, want %v", err, test.want)
						}
					})
				}
				all.Wait()
				if waited := time.Since(began); waited > 2*sqliteBusyTimeout {
					t.Errorf("the callers waited %s", waited)
				}
				if err := <-long; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// countedDatabase counts the transactions of batches.
type countedDatabase struct {
	database
	transactions int
}

func (d *countedDatabase) batch(ctx context.Context, lockWait time.Duration, f func(pipeline) error) error {
	d.transactions++
	return d.database.batch(ctx, lockWait, f)
}

// Callers that store the same ticket together with others do not make everyone else in their batch run
// alone.
func TestOperationsThatFailHalfWayRunAlone(t *testing.T) {
	onBoth(t, func(t *testing.T, databaseURL string) {
		s := openTest(t, databaseURL)
		counted := &countedDatabase{database: s.database}
		w := &writer{database: counted}
		put := func(names ...string) *operation {
			op := &operation{result: make(chan error, 1)}
			for _, name := range names {
				ticket := storage.Ticket{Key: storage.Kind("code").Hash(name), Expires: testNow.Add(time.Hour)}
				op.put = append(op.put, change{verb: putting, ticket: ticket, at: testNow.UnixMilli(), together: true})
			}
			return op
		}
		var batch []*operation
		for i := range 50 {
			batch = append(batch, put(fmt.Sprint("a ", i), fmt.Sprint("b ", i)))
		}
		batch = append(batch, put("used", "token 1"), put("used", "token 2"))
		w.commit(batch)
		exists := 0
		for i, op := range batch {
			switch err := <-op.result; {
			case errors.Is(err, storage.ErrExists) && i >= 50:
				exists++
			case err != nil:
				t.Errorf("operation %d: %v", i, err)
			}
		}
		if exists != 1 {
			t.Errorf("%d of two operations that store the same ticket failed", exists)
		}
		if counted.transactions > 4 {
			t.Errorf("%d operations took %d transactions", len(batch), counted.transactions)
		}
	})
}

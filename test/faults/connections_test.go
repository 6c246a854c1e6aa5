package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/valetkey/valetkey/internal/pgtest"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/sqldb"
)

// spender is a client of the store that tries again after a fault.
type spender struct {
	store   *sqldb.Store
	current link
	faults  int
}

// step spends the current link for the next. After a fault it is not known whether that took
// effect; then the next link exists if and only if the current one is spent.
func (s *spender) step(ctx context.Context) error {
	next := s.current.next(0)
	for try := 0; ; try++ {
		now := time.Now()
		err := s.store.Spend(ctx, now, []storage.Key{s.current.key(refresh)}, next.tickets(now)...)
		switch {
		case err == nil:
		case errors.Is(err, storage.ErrSpent) && try > 0:
			for _, kind := range []storage.Kind{refresh, access} {
				for {
					_, err = s.store.Get(ctx, now, next.key(kind))
					if err == nil {
						break
					}
					if errors.Is(err, storage.ErrNotFound) {
						return fmt.Errorf("half done: %+v is spent and its successor does not exist", s.current)
					}
					s.faults++
				}
			}
		case errors.Is(err, storage.ErrSpent), errors.Is(err, storage.ErrNotFound), errors.Is(err, storage.ErrExists):
			return fmt.Errorf("try %d to spend %+v: %w", try, s.current, err)
		case try > 1000:
			return fmt.Errorf("the store does not recover: %w", err)
		default:
			s.faults++
			continue
		}
		s.current = next
		return nil
	}
}

// TestRE09_LostConnections ends the connections to PostgreSQL while they are used, also between a
// COMMIT and its response.
func TestRE09_LostConnections(t *testing.T) {
	databaseURL, err := url.Parse(pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	killer, err := pgx.Connect(t.Context(), databaseURL.String())
	if err != nil {
		t.Fatal(err)
	}
	defer killer.Close(context.Background())
	query := databaseURL.Query()
	query.Set("application_name", "killed")
	databaseURL.RawQuery = query.Encode()
	store, err := sqldb.Open(t.Context(), databaseURL.String(), sqldb.Config{MasterKey: masterKey})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()

	var all []*spender
	var working sync.WaitGroup
	var stop atomic.Bool
	steps := make(chan error)
	for chain := range chains {
		s := &spender{store: store, current: link{chain: chain}}
		all = append(all, s)
		if err := store.Put(t.Context(), time.Now(), s.current.tickets(time.Now())...); err != nil {
			t.Fatal(err)
		}
		working.Go(func() {
			for !stop.Load() {
				err := s.step(t.Context())
				steps <- err
				if err != nil {
					return
				}
			}
		})
	}
	go func() {
		working.Wait()
		close(steps)
	}()
	ends, count := 4*kills(), 0
	for next := 0; ends > 0; {
		err, more := <-steps
		if !more || err != nil {
			t.Error(err)
			break
		}
		if count++; count >= next {
			if _, err := killer.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'killed' AND datname = current_database()`); err != nil {
				t.Error(err)
				break
			}
			ends--
			next = count + rand.IntN(100)
		}
	}
	stop.Store(true)
	for err := range steps {
		if err != nil {
			t.Error(err)
		}
	}
	faults := 0
	for _, s := range all {
		faults += s.faults
		for l := s.current; l.n > 0; {
			l.n--
			wantSpent(t, store, l)
		}
	}
	t.Logf("connections ended %d times, %d writes, %d faults returned", 4*kills(), count, faults)
	if faults == 0 {
		t.Error("no connection was lost while it was used")
	}
}

package storagetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/valetkey/valetkey/storage"
)

// rounds returns how often to repeat a race, which is found by chance. The race detector needs few
// repetitions, because it finds what could have happened; test/all runs all of them without it.
func rounds(many int) int {
	switch {
	case testing.Short():
		return max(many/10, 1)
	case raceDetector:
		return max(many/5, 1)
	}
	return many
}

// together makes n concurrent calls of f and returns the errors.
func together(n int, f func(i int) error) []error {
	errs := make([]error, n)
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-start
			errs[i] = f(i)
		})
	}
	ready.Wait()
	close(start)
	done.Wait()
	return errs
}

// patiently calls f again if the store does not respond in time, as on a busy machine. It is for
// tests of consistency, which claim nothing about time.
func patiently(f func() error) error {
	var err error
	for range 5 {
		if err = f(); !errors.Is(err, storage.ErrUnavailable) {
			return err
		}
	}
	return err
}

// wantOne checks that one call succeeded and the rest failed with lost.
func wantOne(t *testing.T, errs []error, lost error) {
	t.Helper()
	won := 0
	for i, err := range errs {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, lost):
			t.Errorf("caller %d: error %v, want %v", i, err, lost)
		}
	}
	if won != 1 {
		t.Errorf("%d of %d callers succeeded, want one", won, len(errs))
	}
}

func raceSpend(t *testing.T, s storage.Tickets) {
	for round := range rounds(10) {
		code := ticket(codes, fmt.Sprint("code ", round))
		put(t, s, code)
		next := func(i int) storage.Ticket { return ticket(refresh, fmt.Sprint(round, " ", i)) }
		errs := together(100, func(i int) error {
			return s.Spend(t.Context(), noon, []storage.Key{code.Key}, next(i))
		})
		wantOne(t, errs, storage.ErrSpent)
		for i, err := range errs {
			wantLive(t, s, noon, next(i).Key, err == nil)
		}
	}
}

func racePut(t *testing.T, s storage.Tickets) {
	for round := range rounds(10) {
		used := ticket("jti", fmt.Sprint(round))
		wantOne(t, together(100, func(i int) error {
			return s.Put(t.Context(), noon, used)
		}), storage.ErrExists)
		wantTicket(t, s, used)
	}
}

func racePutSpent(t *testing.T, s storage.Tickets) {
	for round := range rounds(10) {
		used := ticket(codes, fmt.Sprint("code ", round))
		used.Spent = noon
		token := func(i int) storage.Ticket { return ticket(refresh, fmt.Sprint(round, " ", i)) }
		errs := together(100, func(i int) error {
			return s.Put(t.Context(), noon, used, token(i))
		})
		wantOne(t, errs, storage.ErrExists)
		for i, err := range errs {
			wantLive(t, s, noon, token(i).Key, err == nil)
		}
	}
}

func raceDifferentTickets(t *testing.T, s storage.Tickets) {
	const n = 100
	key := func(i int) storage.Ticket { return ticket(refresh, fmt.Sprint(i)) }
	for i := range n {
		put(t, s, key(i))
	}
	put(t, s, ticket(refresh, "existing"))
	errs := together(n, func(i int) error {
		next := ticket(refresh, fmt.Sprint("next ", i))
		if i%10 == 0 { // fails half-way, while the others succeed
			next = ticket(refresh, "existing")
		}
		return s.Spend(t.Context(), noon, []storage.Key{key(i).Key}, next)
	})
	for i, err := range errs {
		got, getErr := s.Get(t.Context(), noon, key(i).Key)
		if getErr != nil {
			t.Fatal(getErr)
		}
		if i%10 == 0 {
			want(t, "Spend with a new ticket that exists", err, storage.ErrExists)
			if !got.Spent.IsZero() {
				t.Errorf("caller %d failed and its ticket is spent", i)
			}
			continue
		}
		want(t, "Spend", err, nil)
		wantLive(t, s, noon, refresh.Hash(fmt.Sprint("next ", i)), true)
	}
}

func raceOppositeOrder(t *testing.T, s storage.Tickets) {
	for round := range rounds(50) {
		a, b := ticket(codes, fmt.Sprint("a", round)), ticket(codes, fmt.Sprint("b", round))
		put(t, s, a, b)
		wantOne(t, together(10, func(i int) error {
			if i%2 == 0 {
				return s.Spend(t.Context(), noon, []storage.Key{a.Key, b.Key})
			}
			return s.Spend(t.Context(), noon, []storage.Key{b.Key, a.Key})
		}), storage.ErrSpent)
	}
}

// raceDeleteFamily runs chains of refreshes while the family is deleted: each link stores the
// next ticket of the family, as fast as the store allows.
func raceDeleteFamily(t *testing.T, s storage.Tickets) {
	raceRefreshes(t, s, 4, numberedGrant, func(round int) error { return s.DeleteFamily(t.Context(), fmt.Sprint("family ", round)) })
}

var errSurvived = errors.New("a refresh succeeded after its family was revoked")

// numberedGrant returns the name of the grant in a round.
func numberedGrant(round int) string { return fmt.Sprint("grant ", round) }

// raceRefreshes runs chains of refreshes under a grant while revoke runs, and checks that
// none of their tickets is live when all have returned.
func raceRefreshes(t *testing.T, s storage.Tickets, chains int, grantOf func(round int) string, revoke func(round int) error) {
	for round := range rounds(40) {
		grant := grantOf(round)
		name := func(chain, link int) string { return fmt.Sprint(round, " ", chain, " ", link) }
		link := func(chain, n int) storage.Ticket {
			return ofGrant(grant, inFamily(fmt.Sprint("family ", round), ticket(refresh, name(chain, n))))
		}
		// Each link has a token whose status others look up.
		status := func(chain, n int) storage.Ticket {
			ticket := link(chain, n)
			ticket.Key = storage.KindStatus.Hash(name(chain, n))
			return ticket
		}
		for chain := range chains {
			put(t, s, link(chain, 0))
		}
		issued := make([]int, chains)
		var revoked atomic.Bool
		var refreshing sync.RWMutex
		errs := together(chains+1, func(i int) error {
			if i == chains {
				defer revoked.Store(true)
				err := revoke(round)
				if errors.Is(err, storage.ErrUnavailable) { // in time, on a busy machine
					refreshing.Lock()
					defer refreshing.Unlock()
					err = patiently(func() error { return revoke(round) })
				}
				return err
			}
			for n := 0; ; n++ {
				late := revoked.Load()
				issued[i] = n
				err := patiently(func() error {
					refreshing.RLock()
					defer refreshing.RUnlock()
					return s.Spend(t.Context(), noon, []storage.Key{link(i, n).Key}, link(i, n+1), status(i, n+1))
				})
				if err == nil && late {
					return errSurvived
				}
				if err != nil {
					return err
				}
			}
		})
		want(t, "revoke", errs[chains], nil)
		for chain := range chains {
			want(t, "refresh after the family is gone", errs[chain], storage.ErrNotFound)
			for n := range issued[chain] + 2 {
				wantLive(t, s, noon, link(chain, n).Key, false)
				if left, err := s.Get(t.Context(), noon, status(chain, n).Key); err == nil && left.Spent.IsZero() {
					t.Error("the status of a revoked token says that it is valid")
				}
			}
		}
	}
}

func raceDelete(t *testing.T, s storage.Tickets) {
	for round := range rounds(50) {
		code := ticket(codes, fmt.Sprint(round))
		put(t, s, code)
		errs := together(10, func(i int) error {
			if i == 0 {
				return s.Delete(t.Context(), code.Key)
			}
			return s.Spend(t.Context(), noon, []storage.Key{code.Key})
		})
		won := 0
		for i, err := range errs {
			switch {
			case err == nil && i > 0:
				won++
			case err != nil && !errors.Is(err, storage.ErrSpent) && !errors.Is(err, storage.ErrNotFound):
				t.Errorf("caller %d: %v", i, err)
			}
		}
		if won > 1 {
			t.Errorf("%d callers spent one ticket", won)
		}
		wantLive(t, s, noon, code.Key, false)
	}
}

package statusindex_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/valetkey/valetkey/internal/statusindex"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/memory"
)

type place struct{ list, index int64 }

func TestNodesNeverAssignAnIndexTwice(t *testing.T) {
	store := memory.New()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var mu sync.Mutex
	seen := map[place]bool{}
	var nodes sync.WaitGroup
	for range 3 {
		node := statusindex.New(store)
		for range 2 {
			nodes.Go(func() {
				for range 3000 {
					list, index, err := node.Next(t.Context(), now)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					if index < 0 || index >= statusindex.ListSize || seen[place{list, index}] {
						t.Errorf("list %d, index %d: out of range or assigned twice", list, index)
					}
					seen[place{list, index}] = true
					mu.Unlock()
				}
			})
		}
	}
	nodes.Wait()
}

func TestAliveUntilTheLastTokenExpires(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	list, _, err := statusindex.New(memory.New()).Next(t.Context(), now)
	if err != nil {
		t.Fatal(err)
	}
	for days, alive := range map[int]bool{-2: false, -1: true, 0: true, 1: true, 2: true, 3: false} {
		if got := statusindex.Alive(list, now.AddDate(0, 0, days), 24*time.Hour); got != alive {
			t.Errorf("after %d days: alive %v", days, got)
		}
	}
	if statusindex.Alive(-1, time.Unix(0, 0), time.Hour) {
		t.Error("a negative list is alive")
	}
}

// stuck is a store that does not respond.
type stuck struct {
	storage.Tickets
	reached, release chan struct{}
}

func (s stuck) Put(context.Context, time.Time, ...storage.Ticket) error {
	close(s.reached)
	<-s.release
	return errors.New("the store is down")
}

func TestACallerStopsWaitingWhenItsRequestEnds(t *testing.T) {
	store := stuck{reached: make(chan struct{}), release: make(chan struct{})}
	indexes := statusindex.New(store)
	first := make(chan error, 1)
	go func() {
		_, _, err := indexes.Next(t.Context(), time.Now())
		first <- err
	}()
	<-store.reached
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := indexes.Next(ctx, time.Now()); !errors.Is(err, context.Canceled) {
		t.Errorf("the second caller: %v", err)
	}
	close(store.release)
	if err := <-first; err == nil {
		t.Error("the first caller got an index from a store that is down")
	}
}

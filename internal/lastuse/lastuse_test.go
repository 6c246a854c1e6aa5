package lastuse_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/internal/lastuse"
	"github.com/valetkey/valetkey/storage"
)

// counting counts the writes.
type counting struct {
	mu     sync.Mutex
	writes int
	last   map[string]time.Time
}

func (c *counting) RecordUses(_ context.Context, uses ...storage.Use) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes++
	for _, use := range uses {
		c.last[use.Owner+" "+use.Name] = use.At
	}
	return nil
}

func (c *counting) UsesOf(context.Context, time.Time, string) ([]storage.Use, error) { return nil, nil }

// A session that is used all the time costs a write every few minutes, and many sessions share it.
func TestManyUsesAreOneWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &counting{last: map[string]time.Time{}}
		r := lastuse.New(store, slog.New(slog.DiscardHandler))
		for range 600 { // ten minutes
			for i := range 10 {
				r.Record(storage.Use{Owner: "u", Name: fmt.Sprint(i), At: time.Now()})
			}
			time.Sleep(time.Second)
		}
		r.Close()
		store.mu.Lock()
		defer store.mu.Unlock()
		if store.writes > 3 || len(store.last) != 10 {
			t.Errorf("%d writes for 6000 uses of %d things in ten minutes", store.writes, len(store.last))
		}
		for name, at := range store.last {
			if time.Since(at) > lastuse.Every+time.Minute {
				t.Errorf("the last stored use of %q is %v old", name, time.Since(at))
			}
		}
	})
}

func TestPendingUsesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &counting{last: map[string]time.Time{}}
		r := lastuse.New(store, slog.New(slog.DiscardHandler))
		for i := range 100_000 {
			r.Record(storage.Use{Owner: "u", Name: fmt.Sprint(i), At: time.Now()})
		}
		if n := len(r.Pending("u")); n == 0 || n > 10_000 {
			t.Errorf("%d uses are waiting", n)
		}
		r.Close()
	})
}

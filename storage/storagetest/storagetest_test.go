package storagetest_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/storagetest"
)

// racy checks whether a ticket is spent and then spends it, in two steps.
type racy struct{ *memory.Store }

func (r racy) Spend(ctx context.Context, now time.Time, spend []storage.Key, put ...storage.Ticket) error {
	var found []storage.Ticket
	for _, key := range spend {
		t, err := r.Get(ctx, now, key)
		if err != nil {
			return err
		}
		if !t.Spent.IsZero() {
			return storage.ErrSpent
		}
		found = append(found, t)
	}
	runtime.Gosched()
	for _, t := range found {
		t.Spent = now
		if err := r.Delete(ctx, t.Key); err != nil {
			return err
		}
		put = append(put, t)
	}
	return r.Store.Put(ctx, now, put...)
}

// The check must be able to fail.
func TestRE06_RacyStoreIsDetected(t *testing.T) {
	for seed := range uint64(1000) {
		if !storagetest.Linearizable(racy{memory.New()}, seed) {
			return
		}
	}
	t.Error("1000 histories of a store that spends in two steps were all found linearizable")
}

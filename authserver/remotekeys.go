package authserver

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/valetkey/valetkey/jose"
)

const (
	remoteKeysLife = 5 * time.Minute
	remoteKeysRest = 30 * time.Second
	// remoteKeysRetry is the pause after a failure while there are no keys at all.
	remoteKeysRetry = 5 * time.Second
)

// remoteKeySet is a client's jwks_uri: kept for five minutes, asked for again when a kid
// is new, and at most every half minute.
type remoteKeySet struct {
	url   string
	fetch func(context.Context, string) ([]byte, error)

	mu      sync.Mutex
	keys    *jose.KeySet
	fetched time.Time
}

// get returns the keys; fresh asks for those of the last half minute.
func (r *remoteKeySet) get(ctx context.Context, now time.Time, fresh bool) (*jose.KeySet, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	life := remoteKeysLife
	switch {
	case r.keys == nil:
		life = remoteKeysRetry // a failure must not lock the client out
	case fresh:
		life = remoteKeysRest
	}
	if !r.fetched.IsZero() && now.Sub(r.fetched) < life {
		if r.keys == nil {
			return nil, errFetch
		}
		return r.keys, nil
	}
	r.fetched = now
	// The caller may hang up; what is fetched is for all.
	keys, err := r.read(context.WithoutCancel(ctx))
	if err == nil {
		r.keys = keys
	} else if r.keys == nil {
		return nil, err
	}
	return r.keys, nil // yesterday's keys rather than none
}

func (r *remoteKeySet) read(ctx context.Context) (*jose.KeySet, error) {
	document, err := r.fetch(ctx, r.url)
	if err != nil {
		return nil, err
	}
	keys, err := jose.ParseKeySet(document)
	if err != nil {
		return nil, fmt.Errorf("read jwks_uri: %w", err)
	}
	return keys, nil
}

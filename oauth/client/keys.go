package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/valetkey/valetkey/oauth/jose"
)

// keyCache caches the provider's key set. It is used until a newer one can be fetched.
type keyCache struct {
	url    string
	flight flight[*jose.KeySet]

	mu      sync.Mutex
	set     *jose.KeySet
	fetched time.Time // when the set was fetched
	paid    time.Time // a token bucket: the end of the time that all fetches so far have used up
}

// verify verifies a JWT of the provider: with the client secret if an HMAC algorithm is
// expected, else with the provider's keys. If the cached keys do not verify it, they are
// fetched again, unless that was just done: the key may be new, or may have replaced another
// with the same kid or without one.
func (c *Client) verify(ctx context.Context, token string, want jose.Expected) ([]byte, jose.Header, error) {
	switch want.Algorithms[0] {
	case jose.HS256, jose.HS384, jose.HS512:
		return jose.VerifySecret(token, []byte(c.config.ClientSecret), want)
	}
	k := &c.keys
	k.mu.Lock()
	set, age := k.set, time.Since(k.fetched)
	k.mu.Unlock()
	if age > keysStale {
		set = nil
	}
	if set == nil || age > keysMaxAge && k.mayFetch() {
		fetched, err := c.fetchKeys(ctx)
		if err != nil && set == nil {
			return nil, jose.Header{}, err
		}
		if err == nil {
			set = fetched
		}
	}
	payload, header, err := jose.Verify(token, set, want)
	if !otherKeysMayVerify(err, header, want) || !k.mayFetch() {
		return payload, header, err
	}
	fetched, fetchErr := c.fetchKeys(ctx)
	if fetchErr != nil {
		return nil, jose.Header{}, fmt.Errorf("%w; fetching the keys again failed: %w", err, fetchErr)
	}
	return jose.Verify(token, fetched, want)
}

// otherKeysMayVerify reports whether a newer key set could change the result.
func otherKeysMayVerify(err error, header jose.Header, want jose.Expected) bool {
	return errors.Is(err, jose.ErrUnknownKey) || errors.Is(err, jose.ErrSignature) ||
		errors.Is(err, jose.ErrAlgorithm) && slices.Contains(want.Algorithms, header.Algorithm)
}

// mayFetch reports whether the set may be fetched again.
func (k *keyCache) mayFetch() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return time.Until(k.paid) <= (keysBurst-1)*keysCooldown
}

func (c *Client) fetchKeys(ctx context.Context) (*jose.KeySet, error) {
	k := &c.keys
	if k.url == "" {
		return nil, fmt.Errorf("%w: its metadata has no jwks_uri", ErrUnsupported)
	}
	return k.flight.do(ctx, func(ctx context.Context) (*jose.KeySet, error) {
		k.mu.Lock()
		if now := time.Now(); k.paid.Before(now) {
			k.paid = now
		}
		k.paid = k.paid.Add(keysCooldown)
		k.mu.Unlock()
		ctx, cancel := context.WithTimeout(ctx, keysTimeout)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, nil)
		if err != nil {
			return nil, fmt.Errorf("client: %w", err)
		}
		req.Header.Set("Accept", "application/jwk-set+json, application/json")
		got, err := c.send(req, maxKeysBytes)
		if err != nil {
			return nil, err
		}
		if got.status != http.StatusOK {
			return nil, fmt.Errorf("%w: %s responded with status %d", ErrResponse, k.url, got.status)
		}
		set, err := jose.ParsePublishedKeySet(got.body)
		if err != nil {
			return nil, fmt.Errorf("%w: key set: %w", ErrResponse, err)
		}
		k.mu.Lock()
		k.set, k.fetched = set, time.Now()
		k.mu.Unlock()
		return set, nil
	})
}

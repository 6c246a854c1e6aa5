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

// keyCache holds the provider's key set. A set that was read once is used until a newer
// one can be read.
type keyCache struct {
	url    string
	flight flight[*jose.KeySet]

	mu      sync.Mutex
	set     *jose.KeySet
	fetched time.Time // when set was read
	paid    time.Time // until when the fetches so far would have lasted at the even pace
}

// verify checks what the provider signed: with the client's secret if one of HS256 and its
// like is expected, else by the provider's keys. If these do not verify it, they are fetched
// once more, unless that was done a moment ago: the key may be new, or have replaced another
// under the same kid or under none.
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
	if set == nil || age > keysMaxAge && k.cooled() {
		fetched, err := c.fetchKeys(ctx)
		if err != nil && set == nil {
			return nil, jose.Header{}, err
		}
		if err == nil {
			set = fetched
		}
	}
	payload, header, err := jose.Verify(token, set, want)
	if !otherKeysMayVerify(err, header, want) || !k.cooled() {
		return payload, header, err
	}
	fetched, fetchErr := c.fetchKeys(ctx)
	if fetchErr != nil {
		return nil, jose.Header{}, fmt.Errorf("%w; its keys could not be read again: %w", err, fetchErr)
	}
	return jose.Verify(token, fetched, want)
}

// otherKeysMayVerify reports whether a newer key set could change the outcome.
func otherKeysMayVerify(err error, header jose.Header, want jose.Expected) bool {
	return errors.Is(err, jose.ErrUnknownKey) || errors.Is(err, jose.ErrSignature) ||
		errors.Is(err, jose.ErrAlgorithm) && slices.Contains(want.Algorithms, header.Algorithm)
}

// cooled reports whether the set may be fetched again.
func (k *keyCache) cooled() bool {
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
			return nil, fmt.Errorf("%w: %s answered with status %d", ErrAnswer, k.url, got.status)
		}
		set, err := jose.ParsePublishedKeySet(got.body)
		if err != nil {
			return nil, fmt.Errorf("%w: key set: %w", ErrAnswer, err)
		}
		k.mu.Lock()
		k.set, k.fetched = set, time.Now()
		k.mu.Unlock()
		return set, nil
	})
}

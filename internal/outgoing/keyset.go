package outgoing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/oauth/jose"
)

// Key sets are fresh for five minutes, and are fetched again for an unknown kid at most every
// half minute. For an hour an older copy is used while the next one is fetched. After that
// the request waits, because a key may have been withdrawn. While the host is down, the last
// copy is used for a day.
const (
	keySetFresh = 5 * time.Minute
	keySetServe = time.Hour
	keySetKeep  = 24 * time.Hour
	keySetRest  = 30 * time.Second
	keySetRetry = 5 * time.Second

	maxKeySetsBytes = 32 << 20
	// keySetMemory is how much more memory a key set takes than its document.
	keySetMemory = 4
)

// KeySet is a key set that is fetched when it is needed. The cache of its Client contains the
// keys.
type KeySet struct {
	address string
	cache   *Cache[*jose.KeySet]
}

// KeySetAt returns the key set at a URL.
func (c *Client) KeySetAt(address string) *KeySet { return &KeySet{address, &c.keySets} }

// KeySetOfIssuer returns the key set that the metadata of an issuer names (OpenID Connect
// Discovery, section 4).
func (c *Client) KeySetOfIssuer(issuer string) *KeySet { return &KeySet{issuer, &c.issuers} }

// Get returns the keys. The caller sets again if a key is missing from the copy that it got.
func (k *KeySet) Get(ctx context.Context, again bool) (*jose.KeySet, error) {
	keys, err := k.cache.Get(ctx, k.address, again)
	if err != nil {
		return nil, fmt.Errorf("get the keys of the client: %w", err)
	}
	return keys, nil
}

func newKeySets(events *event.Log, fetch func(ctx context.Context, address string) ([]byte, error)) Cache[*jose.KeySet] {
	return Cache[*jose.KeySet]{
		Load: func(ctx context.Context, address string) (*jose.KeySet, int, error) {
			document, err := fetch(ctx, address)
			var keys *jose.KeySet
			if err == nil {
				keys, err = jose.ParseKeySet(document)
			}
			if err != nil {
				events.Record(ctx, event.KeySetFetchFailed, slog.String("uri", withoutQuery(address)), slog.Any("cause", err))
				return nil, 0, fmt.Errorf("read key set: %w", err)
			}
			return keys, keySetMemory * len(document), nil
		},
		Fresh:    keySetFresh,
		Serve:    keySetServe,
		Keep:     keySetKeep,
		Rest:     keySetRest,
		Retry:    keySetRetry,
		MaxBytes: maxKeySetsBytes,
	}
}

func (c *Client) fetchKeysOfIssuer(ctx context.Context, issuer string) ([]byte, error) {
	document, err := c.GetJSON(ctx, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return nil, err
	}
	var metadata struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(document, &metadata); err != nil {
		return nil, fmt.Errorf("read an issuer's metadata: %w", err)
	}
	if metadata.Issuer != issuer || metadata.JWKSURI == "" {
		return nil, errors.New("read an issuer's metadata: it names another issuer, or has no jwks_uri")
	}
	return c.GetJSON(ctx, metadata.JWKSURI)
}

// withoutQuery returns an address as it is logged: its query may be a secret.
func withoutQuery(address string) string {
	address, _, _ = strings.Cut(address, "?")
	return address
}

package authserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/valetkey/valetkey/internal/outgoing"
	"github.com/valetkey/valetkey/jose"
)

// remoteKeySet is the key set at a URL. It outlives the client: it is kept by its URL.
type remoteKeySet struct {
	url  string
	sets *outgoing.Cache[*jose.KeySet]
}

// get returns the keys. With again, the caller found that one is missing.
func (r *remoteKeySet) get(ctx context.Context, again bool) (*jose.KeySet, error) {
	keys, err := r.sets.Get(ctx, r.url, again)
	if err != nil {
		return nil, fmt.Errorf("get the keys of the client: %w", err)
	}
	return keys, nil
}

// fetchKeysOfIssuer fetches the keys that an issuer's metadata names.
func (r *remote) fetchKeysOfIssuer(ctx context.Context, issuer string) ([]byte, error) {
	document, err := r.GetJSON(ctx, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration")
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
	if metadata.Issuer != issuer || !isWebAddress(metadata.JWKSURI) {
		return nil, errors.New("read an issuer's metadata: it is another issuer's, or has no https jwks_uri")
	}
	return r.GetJSON(ctx, metadata.JWKSURI)
}

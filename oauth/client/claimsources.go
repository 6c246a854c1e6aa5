package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/valetkey/valetkey/oauth/jose"
)

// maxClaimSources limits how many endpoints one response can make the client call.
const maxClaimSources = 10

// claimSource is a member of _claim_sources (OpenID Connect Core, section 5.6.2).
type claimSource struct {
	JWT         string `json:"JWT"`
	Endpoint    string `json:"endpoint"`
	AccessToken string `json:"access_token"`
}

// OtherClaims returns aggregated and distributed claims (OpenID Connect Core, section 5.6.2):
// claims from other claims providers, which are contained as signed JWTs or are fetched.
// claims are those of UserInfo or of an ID token.
//
// A JWT is accepted only if it is signed by the provider itself or by the issuer of one of the
// trusted clients; create those with Discover and any ClientID. If only some of the claims can
// be read, these are returned together with the error.
func (c *Client) OtherClaims(ctx context.Context, claims json.RawMessage, trusted ...*Client) (map[string]json.RawMessage, error) {
	var members struct {
		Names   map[string]string      `json:"_claim_names"`
		Sources map[string]claimSource `json:"_claim_sources"`
	}
	if err := json.Unmarshal(claims, &members); err != nil {
		return nil, fmt.Errorf("%w: _claim_names and _claim_sources: %w", ErrResponse, err)
	}
	if len(members.Sources) > maxClaimSources {
		return nil, fmt.Errorf("%w: it has more than %d claim sources", ErrResponse, maxClaimSources)
	}
	found := map[string]json.RawMessage{}
	var failures []error
	for _, name := range slices.Sorted(maps.Keys(members.Sources)) {
		sourceClaims, err := c.sourceClaims(ctx, members.Sources[name], trusted)
		if err != nil {
			failures = append(failures, fmt.Errorf("claim source %q: %w", sanitize(name, 64), err))
			continue
		}
		for claim, source := range members.Names {
			if value, ok := sourceClaims[claim]; ok && source == name {
				found[claim] = value
			}
		}
	}
	return found, errors.Join(failures...)
}

// sourceClaims returns the verified claims of a source.
func (c *Client) sourceClaims(ctx context.Context, source claimSource, trusted []*Client) (map[string]json.RawMessage, error) {
	token := source.JWT
	if token == "" {
		var err error
		if token, err = c.fetchClaims(ctx, source); err != nil {
			return nil, err
		}
	}
	unverified, err := jose.UnverifiedPayload(token)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrResponse, err)
	}
	named, err := jose.ParseClaims(unverified, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrResponse, err)
	}
	// Without iss, the provider itself is the issuer.
	signer := c
	if named.Issuer != "" {
		i := slices.IndexFunc(trusted, func(t *Client) bool { return t.metadata.Issuer == named.Issuer })
		switch {
		case i >= 0:
			signer = trusted[i]
		case named.Issuer != c.metadata.Issuer:
			return nil, fmt.Errorf("%w: its issuer is not trusted", ErrResponse)
		}
	}
	payload, _, err := signer.verify(ctx, token, jose.Expected{Algorithms: c.profile.algorithms, Types: []string{"JWT", ""}})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrResponse, err)
	}
	var sourceClaims map[string]json.RawMessage
	verified, err := jose.ParseClaims(payload, &sourceClaims)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrResponse, err)
	}
	if !verified.Expires.IsZero() && !time.Now().Before(verified.Expires.Add(leeway)) {
		return nil, fmt.Errorf("%w: it has expired", ErrResponse)
	}
	return sourceClaims, nil
}

// fetchClaims fetches distributed claims from their endpoint. It uses only the access token
// that the source contains.
func (c *Client) fetchClaims(ctx context.Context, source claimSource) (string, error) {
	endpoint, err := url.Parse(source.Endpoint)
	if err != nil || endpoint.Host == "" || endpoint.User != nil {
		return "", fmt.Errorf("%w: it has neither a JWT nor an endpoint", ErrResponse)
	}
	own, err := url.Parse(c.metadata.Issuer)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrMetadata, err)
	}
	if endpoint.Scheme != "https" && (own.Scheme == "https" || !secure(endpoint)) {
		return "", fmt.Errorf("%w: its endpoint must use https", ErrResponse)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, source.Endpoint, nil)
	if err != nil {
		return "", fmt.Errorf("client: %w", err)
	}
	req.Header.Set("Accept", "application/jwt")
	if source.AccessToken != "" {
		if !printable(source.AccessToken) {
			return "", fmt.Errorf("%w: its access token is malformed", ErrResponse)
		}
		req.Header.Set("Authorization", "Bearer "+source.AccessToken)
	}
	got, err := c.send(req, maxResponseBytes)
	if err != nil {
		return "", err
	}
	if got.status != http.StatusOK {
		return "", fmt.Errorf("%w: its endpoint responded with status %d", ErrResponse, got.status)
	}
	return string(got.body), nil
}

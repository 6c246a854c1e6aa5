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

// maxClaimSources bounds how many endpoints one answer can send the client to.
const maxClaimSources = 10

// claimSource is a member of _claim_sources (OpenID Connect Core, section 5.6.2).
type claimSource struct {
	JWT         string `json:"JWT"`
	Endpoint    string `json:"endpoint"`
	AccessToken string `json:"access_token"`
}

// OtherClaims returns the claims that the provider does not state itself but says where
// they are: aggregated ones, which come along signed by who states them, and distributed
// ones, which are fetched from there (OpenID Connect Core, section 5.6.2). claims are those
// of UserInfo or of an ID token.
//
// A statement counts only if the provider itself has signed it, or one of trusted, whose
// issuer it then names; Discover makes those, with any ClientID. Claims that could be had
// are returned also if others could not, together with the error.
func (c *Client) OtherClaims(ctx context.Context, claims json.RawMessage, trusted ...*Client) (map[string]json.RawMessage, error) {
	var members struct {
		Names   map[string]string      `json:"_claim_names"`
		Sources map[string]claimSource `json:"_claim_sources"`
	}
	if err := json.Unmarshal(claims, &members); err != nil {
		return nil, fmt.Errorf("%w: _claim_names and _claim_sources: %w", ErrAnswer, err)
	}
	if len(members.Sources) > maxClaimSources {
		return nil, fmt.Errorf("%w: it names more than %d sources of claims", ErrAnswer, maxClaimSources)
	}
	found := map[string]json.RawMessage{}
	var failures []error
	for _, name := range slices.Sorted(maps.Keys(members.Sources)) {
		stated, err := c.stated(ctx, members.Sources[name], trusted)
		if err != nil {
			failures = append(failures, fmt.Errorf("source of claims %q: %w", tame(name, 64), err))
			continue
		}
		for claim, source := range members.Names {
			if value, ok := stated[claim]; ok && source == name {
				found[claim] = value
			}
		}
	}
	return found, errors.Join(failures...)
}

// stated returns the claims of a source, verified.
func (c *Client) stated(ctx context.Context, source claimSource, trusted []*Client) (map[string]json.RawMessage, error) {
	token := source.JWT
	if token == "" {
		var err error
		if token, err = c.fetchClaims(ctx, source); err != nil {
			return nil, err
		}
	}
	unverified, err := jose.UnverifiedPayload(token)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	named, err := jose.ParseClaims(unverified, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	// Who states them is the provider, unless they say otherwise.
	signer := c
	if named.Issuer != "" {
		i := slices.IndexFunc(trusted, func(t *Client) bool { return t.metadata.Issuer == named.Issuer })
		switch {
		case i >= 0:
			signer = trusted[i]
		case named.Issuer != c.metadata.Issuer:
			return nil, fmt.Errorf("%w: its issuer is not trusted here", ErrAnswer)
		}
	}
	payload, _, err := signer.verify(ctx, token, jose.Expected{Algorithms: asymmetric, Types: []string{"JWT", ""}})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	var stated map[string]json.RawMessage
	verified, err := jose.ParseClaims(payload, &stated)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	if !verified.Expires.IsZero() && !time.Now().Before(verified.Expires.Add(leeway)) {
		return nil, fmt.Errorf("%w: exp is past", ErrAnswer)
	}
	return stated, nil
}

// fetchClaims asks the endpoint of distributed claims, with the token that came along and
// with no other.
func (c *Client) fetchClaims(ctx context.Context, source claimSource) (string, error) {
	endpoint, err := url.Parse(source.Endpoint)
	if err != nil || endpoint.Host == "" || endpoint.User != nil {
		return "", fmt.Errorf("%w: neither a JWT nor an endpoint", ErrAnswer)
	}
	own, err := url.Parse(c.metadata.Issuer)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrMetadata, err)
	}
	if endpoint.Scheme != "https" && (own.Scheme == "https" || !secure(endpoint)) {
		return "", fmt.Errorf("%w: its endpoint is not https", ErrAnswer)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, source.Endpoint, nil)
	if err != nil {
		return "", fmt.Errorf("client: %w", err)
	}
	req.Header.Set("Accept", "application/jwt")
	if source.AccessToken != "" {
		if !printable(source.AccessToken) {
			return "", fmt.Errorf("%w: its access token is malformed", ErrAnswer)
		}
		req.Header.Set("Authorization", "Bearer "+source.AccessToken)
	}
	got, err := c.send(req, maxAnswerBytes)
	if err != nil {
		return "", err
	}
	if got.status != http.StatusOK {
		return "", fmt.Errorf("%w: its endpoint answered with status %d", ErrAnswer, got.status)
	}
	return string(got.body), nil
}

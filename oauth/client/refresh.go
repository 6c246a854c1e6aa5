package client

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/dpop"
)

// Refresh gets new tokens with a refresh token (RFC 6749, section 6). If the provider does not
// send a new refresh token, scope or ID token, the result has the previous one. t is not
// changed, but its refresh token may be used up. If several goroutines share tokens, use a
// Source.
//
// The error wraps ErrSignInAgain if there is no refresh token, or the provider does not accept
// it anymore.
func (c *Client) Refresh(ctx context.Context, t *Tokens) (*Tokens, error) {
	if t.RefreshToken == "" {
		return nil, fmt.Errorf("%w: there is no refresh token", ErrSignInAgain)
	}
	key, err := c.refreshKey(t)
	if err != nil {
		return nil, err
	}
	next, err := c.requestBoundTokens(ctx, url.Values{
		"grant_type":    {oauth.GrantTypeRefreshToken},
		"refresh_token": {t.RefreshToken},
	}, key)
	if errors.Is(err, &Error{Code: oauth.InvalidGrant}) {
		return nil, fmt.Errorf("%w: %w", ErrSignInAgain, err)
	}
	if err != nil {
		return nil, fmt.Errorf("refresh tokens: %w", err)
	}
	if next.RefreshToken == "" {
		next.RefreshToken = t.RefreshToken
		if next.RefreshTokenExpiry.IsZero() {
			next.RefreshTokenExpiry, next.AuthorizationExpiry = t.RefreshTokenExpiry, t.AuthorizationExpiry
		}
	}
	if len(next.Scope) == 0 {
		next.Scope = t.Scope
	}
	if err := c.profile.checkScope(next.Scope, t.Scope); err != nil {
		return nil, err
	}
	if next.IDToken == "" || t.Identity == nil {
		next.IDToken, next.Identity = t.IDToken, t.Identity
		return next, nil
	}
	next.Identity, err = c.checkIDToken(ctx, next, expectedIDToken{before: t.Identity})
	if err != nil {
		return nil, err
	}
	return next, nil
}

// refreshKey returns the key for a refresh: that of the tokens, to which the refresh token of a public
// client is bound.
func (c *Client) refreshKey(t *Tokens) (*dpop.Key, error) {
	key, err := c.prover.keyOf(t)
	if key != nil || err != nil {
		return key, err
	}
	return c.prover.newKey() // the tokens are from before Config.DPoP was set
}

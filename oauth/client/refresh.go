package client

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/valetkey/valetkey/oauth"
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
	next, err := c.requestTokens(ctx, url.Values{
		"grant_type":    {oauth.GrantTypeRefreshToken},
		"refresh_token": {t.RefreshToken},
	})
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

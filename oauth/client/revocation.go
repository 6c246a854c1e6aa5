package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/valetkey/valetkey/oauth"
)

// Revoke revokes the tokens at the provider (RFC 7009): the refresh token, and with it usually
// its access tokens, or the access token if there is no refresh token. It succeeds also for a
// token that the provider does not know.
func (c *Client) Revoke(ctx context.Context, t *Tokens) error {
	if c.metadata.RevocationEndpoint == "" {
		return fmt.Errorf("%w: its metadata has no revocation_endpoint", ErrUnsupported)
	}
	form := url.Values{"token": {t.RefreshToken}, "token_type_hint": {oauth.TokenTypeHintRefreshToken}}
	if t.RefreshToken == "" {
		form = url.Values{"token": {t.AccessToken}, "token_type_hint": {oauth.TokenTypeHintAccessToken}}
	}
	got, err := c.post(ctx, c.metadata.RevocationEndpoint, form)
	if err != nil {
		return err
	}
	if got.status != http.StatusOK {
		return fmt.Errorf("revoke: %w", parseError(got))
	}
	return nil
}

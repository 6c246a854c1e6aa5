package client

import (
	"context"
	"fmt"
	"net/url"
	"slices"

	"github.com/valetkey/valetkey/oauth"
)

// Password exchanges a user's password for tokens (RFC 6749, section 4.3), with the scopes and
// resources of Config.
//
// Do not use it in a new application: it shows the user's password to the client, and works
// neither with a second factor nor with a sign-in at another provider. RFC 9700, section 2.4,
// forbids this grant. It is for old systems whose provider still allows it.
func (c *Client) Password(ctx context.Context, username, password string) (*Tokens, error) {
	form := url.Values{"grant_type": {oauth.GrantTypePassword}, "username": {username}, "password": {password}}
	if len(c.config.Scopes) > 0 {
		form.Set("scope", oauth.Scope(c.config.Scopes).String())
	}
	if err := setDetails(form, c.config.AuthorizationDetails); err != nil {
		return nil, err
	}
	tokens, err := c.requestTokens(ctx, form)
	if err != nil {
		return nil, fmt.Errorf("exchange a password for tokens: %w", err)
	}
	if len(tokens.Scope) == 0 {
		tokens.Scope = slices.Clone(c.config.Scopes)
	}
	if tokens.IDToken != "" {
		if tokens.Identity, err = c.checkIDToken(ctx, tokens, expectedIDToken{}); err != nil {
			return nil, err
		}
	}
	return tokens, nil
}

package client

import (
	"context"
	"fmt"
	"net/url"
	"slices"

	"github.com/valetkey/valetkey/oauth"
)

// ClientCredentials takes an access token for the client itself (RFC 6749, section 4.4),
// with the scopes and resources of Config. Each call is a request; a program that calls
// an API keeps a ClientCredentialsSource instead.
func (c *Client) ClientCredentials(ctx context.Context) (*Tokens, error) {
	form := url.Values{"grant_type": {oauth.GrantTypeClientCredentials}}
	if len(c.config.Scopes) > 0 {
		form.Set("scope", oauth.Scope(c.config.Scopes).String())
	}
	tokens, err := c.requestTokens(ctx, form)
	if err != nil {
		return nil, fmt.Errorf("take a token with client credentials: %w", err)
	}
	if len(tokens.Scope) == 0 {
		tokens.Scope = slices.Clone(c.config.Scopes)
	}
	return tokens, nil
}

// ClientCredentialsSource returns a source whose tokens are taken with client
// credentials, one at a time, each used until shortly before its end. It sends no
// request before somebody asks for a token.
func (c *Client) ClientCredentialsSource() *Source {
	return &Source{
		base: c.config.HTTPClient,
		renew: func(ctx context.Context, _ *Tokens) (*Tokens, error) {
			return c.ClientCredentials(ctx)
		},
	}
}

package client

import (
	"context"
	"fmt"
	"net/url"
	"slices"

	"github.com/valetkey/valetkey/oauth"
)

// ClientCredentials requests an access token for the client itself (RFC 6749, section 4.4),
// with the scopes and resources of Config. Each call sends a request. To call an API, use
// ClientCredentialsSource instead.
func (c *Client) ClientCredentials(ctx context.Context) (*Tokens, error) {
	form := url.Values{"grant_type": {oauth.GrantTypeClientCredentials}}
	if len(c.config.Scopes) > 0 {
		form.Set("scope", oauth.Scope(c.config.Scopes).String())
	}
	if err := setDetails(form, c.config.AuthorizationDetails); err != nil {
		return nil, err
	}
	tokens, err := c.requestTokens(ctx, form)
	if err != nil {
		return nil, fmt.Errorf("request a token with client credentials: %w", err)
	}
	if len(tokens.Scope) == 0 {
		tokens.Scope = slices.Clone(c.config.Scopes)
	}
	if err := c.profile.checkScope(tokens.Scope, c.config.Scopes); err != nil {
		return nil, err
	}
	return tokens, nil
}

// ClientCredentialsSource returns a source of client credentials tokens. It requests the
// first token when it is needed, and a new one shortly before the current one expires.
func (c *Client) ClientCredentialsSource() *Source {
	return &Source{
		base:          c.config.HTTPClient,
		prover:        c.prover,
		interactionID: c.config.InteractionID,
		renew: func(ctx context.Context, _ *Tokens) (*Tokens, error) {
			return c.ClientCredentials(ctx)
		},
	}
}

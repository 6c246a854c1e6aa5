package client

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"

	"github.com/valetkey/valetkey/oauth"
)

// JWTBearer exchanges a JWT from an issuer that the provider trusts for an access token
// (RFC 7523, section 2.1), with the scopes and resources of Config. The access token is for
// the user in the JWT; there is no refresh token. An ID-JAG, which TokenExchange returns, is
// such a JWT. If the provider rejects it, the error is an *Error.
func (c *Client) JWTBearer(ctx context.Context, assertion string) (*Tokens, error) {
	if assertion == "" {
		return nil, errors.New("exchange an assertion for a token: the assertion is empty")
	}
	return c.forAssertion(ctx, oauth.GrantTypeJWTBearer, assertion)
}

// forAssertion exchanges an assertion for a token (RFC 7521, section 4.1).
func (c *Client) forAssertion(ctx context.Context, grantType, assertion string) (*Tokens, error) {
	form := url.Values{"grant_type": {grantType}, "assertion": {assertion}}
	if len(c.config.Scopes) > 0 {
		form.Set("scope", oauth.Scope(c.config.Scopes).String())
	}
	if err := setDetails(form, c.config.AuthorizationDetails); err != nil {
		return nil, err
	}
	tokens, err := c.requestTokens(ctx, form)
	if err != nil {
		return nil, fmt.Errorf("exchange an assertion for a token: %w", err)
	}
	if len(tokens.Scope) == 0 {
		tokens.Scope = slices.Clone(c.config.Scopes)
	}
	return tokens, nil
}

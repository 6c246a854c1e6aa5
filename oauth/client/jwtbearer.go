package client

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"

	"github.com/valetkey/valetkey/oauth"
)

// JWTBearer takes an access token for the JWT of an issuer that the provider trusts (RFC
// 7523, section 2.1), with the scopes and resources of Config: in the name of the person
// whom the JWT is about, and with no refresh token. An ID-JAG, which TokenExchange asks
// somebody's identity provider for, is such a JWT. A refusal is an *Error.
func (c *Client) JWTBearer(ctx context.Context, assertion string) (*Tokens, error) {
	if assertion == "" {
		return nil, errors.New("take a token for an assertion: there is none")
	}
	return c.forAssertion(ctx, oauth.GrantTypeJWTBearer, assertion)
}

// forAssertion takes a token for what somebody else says of a person (RFC 7521, section 4.1).
func (c *Client) forAssertion(ctx context.Context, grantType, assertion string) (*Tokens, error) {
	form := url.Values{"grant_type": {grantType}, "assertion": {assertion}}
	if len(c.config.Scopes) > 0 {
		form.Set("scope", oauth.Scope(c.config.Scopes).String())
	}
	tokens, err := c.requestTokens(ctx, form)
	if err != nil {
		return nil, fmt.Errorf("take a token for an assertion: %w", err)
	}
	if len(tokens.Scope) == 0 {
		tokens.Scope = slices.Clone(c.config.Scopes)
	}
	return tokens, nil
}

package client

import (
	"context"
	"encoding/base64"
	"errors"

	"github.com/valetkey/valetkey/oauth"
)

// SAMLBearer is JWTBearer for a SAML 2.0 assertion (RFC 7522, section 2.1). The assertion is
// the signed Assertion element, unchanged.
func (c *Client) SAMLBearer(ctx context.Context, assertion []byte) (*Tokens, error) {
	if len(assertion) == 0 {
		return nil, errors.New("exchange an assertion for a token: the assertion is empty")
	}
	return c.forAssertion(ctx, oauth.GrantTypeSAMLBearer, base64.RawURLEncoding.EncodeToString(assertion))
}

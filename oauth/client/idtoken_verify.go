package client

import (
	"context"
	"time"
)

// IDTokenOptions are the expectations of VerifyIDToken. The zero value accepts a token for the
// client itself that has no nonce.
type IDTokenOptions struct {
	// Nonce is the nonce that the application generated for this sign-in. Use each nonce once,
	// so that a stolen token cannot be used for another sign-in.
	Nonce string
	// InsecureAnyNonce disables the check of the nonce, for SDKs that generate one and do not
	// disclose it. A stolen token can then be used until it expires.
	InsecureAnyNonce bool
	// ClientIDs are other client IDs of the same application, for example of its Android and
	// iOS versions. They are accepted in aud and azp.
	ClientIDs []string
	// MaxAge is how long ago the user may have signed in; nil means any time.
	MaxAge *time.Duration
	// AccessToken is the access token from the same response, if any. If the ID token has an
	// at_hash, it must match.
	AccessToken string
}

// VerifyIDToken validates an ID token that does not come from Callback: from the SDK of a
// native application, from One Tap, or from another program of the same application. It does
// all checks of OpenID Connect Core, section 3.1.3.7. Errors wrap ErrIDToken.
//
// An ID token proves to one application, once, who has signed in. It is not an access token:
// do not accept it with each request instead of a session.
func (c *Client) VerifyIDToken(ctx context.Context, token string, options IDTokenOptions) (*IDToken, error) {
	want := expectedIDToken{nonce: options.Nonce, anyNonce: options.InsecureAnyNonce, clientIDs: options.ClientIDs}
	if options.MaxAge != nil {
		seconds := int64(*options.MaxAge / time.Second)
		want.maxAge = &seconds
	}
	return c.checkIDToken(ctx, &Tokens{IDToken: token, AccessToken: options.AccessToken}, want)
}

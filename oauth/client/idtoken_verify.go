package client

import (
	"context"
	"time"
)

// IDTokenOptions say what an ID token from elsewhere must be. The zero value takes a token
// for the client itself that has no nonce.
type IDTokenOptions struct {
	// Nonce is the one that the application made for this sign-in, and gave to whatever got
	// the token. Use each once: it keeps a token that somebody copied from signing them in.
	Nonce string
	// InsecureAnyNonce does not look at the nonce, for SDKs that make one of their own and do
	// not tell it. A token that somebody copied can then be used until it expires.
	InsecureAnyNonce bool
	// ClientIDs are other client IDs of the same application, such as those of its Android
	// and iOS versions. The token may be for one of them (aud), or have been got by one (azp).
	ClientIDs []string
	// MaxAge is how long ago the end user may have signed in; nil means any time.
	MaxAge *time.Duration
	// AccessToken is the one that came with the ID token, if any: at_hash, if the ID token has
	// it, must belong to it.
	AccessToken string
}

// VerifyIDToken checks an ID token that did not come through Callback: from the SDK of a
// native application, from One Tap, or from another program of the same application. All
// checks of OpenID Connect Core, section 3.1.3.7, are made; the errors wrap ErrIDToken.
//
// An ID token proves who signed in, once, to the application that it names. It is no access
// token: do not accept it with each request in place of a session.
func (c *Client) VerifyIDToken(ctx context.Context, token string, options IDTokenOptions) (*IDToken, error) {
	want := expectedIDToken{nonce: options.Nonce, anyNonce: options.InsecureAnyNonce, clientIDs: options.ClientIDs}
	if options.MaxAge != nil {
		seconds := int64(*options.MaxAge / time.Second)
		want.maxAge = &seconds
	}
	return c.checkIDToken(ctx, &Tokens{IDToken: token, AccessToken: options.AccessToken}, want)
}

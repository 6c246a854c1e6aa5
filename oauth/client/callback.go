package client

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

// Callback ends a sign-in with the parameters that came to the redirect URI, and returns
// the tokens. It checks that the answer belongs to the transaction and comes from the
// provider before it says anything to anybody; then it checks the ID token that came
// along, if one was asked for, redeems the code and checks the ID token that this gave.
//
// Parameters from a query, a posted form or a fragment look alike here. Tokens in a query
// are for the caller to refuse: they end in logs and histories.
//
// A transaction is good for one answer: whatever comes of it, the state, the nonce and
// the verifier are erased from t. Only an answer with another state leaves it as it was,
// so that a forged one cannot end an honest sign-in. A web application forgets its own
// copy, too. Not safe for concurrent use of the same t.
//
// Errors: *Error for what the provider reported (the person may have refused:
// oauth.AccessDenied); ErrState, ErrTransaction, ErrMixUp, ErrCallback, ErrAnswer,
// ErrIDToken.
func (c *Client) Callback(ctx context.Context, t *Transaction, answer url.Values) (*Tokens, error) {
	if err := c.checkCallback(t, answer, time.Now()); err != nil {
		return nil, err
	}
	used := *t
	t.erase()
	asked, ok := oauth.ParseResponseType(used.ResponseType)
	if !ok {
		return nil, fmt.Errorf("%w: it does not say which response type was asked for", ErrTransaction)
	}
	if asked.Code && answer.Get("code") == "" {
		return nil, fmt.Errorf("%w: it has neither a code nor an error", ErrCallback)
	}
	front, err := c.frontChannelTokens(ctx, asked, &used, answer)
	if err != nil || !asked.Code {
		return front, err
	}
	return c.redeemCode(ctx, &used, answer.Get("code"), front.Identity)
}

// frontChannelTokens reads what came through the browser, and believes it only as far as
// a checked ID token vouches for it: at_hash for the access token, c_hash for the code
// (OpenID Connect Core, sections 3.2.2.8 to 3.2.2.11 and 3.3.2.8 to 3.3.2.11). Where no ID
// token comes along, as with "code token", the access token is left unread: the one that
// the code gives is as good, and came straight from the provider.
func (c *Client) frontChannelTokens(ctx context.Context, asked oauth.ResponseType, t *Transaction, answer url.Values) (*Tokens, error) {
	tokens := &Tokens{Issued: time.Now().Round(0), Scope: t.Scope}
	if !asked.IDToken {
		return tokens, nil
	}
	if tokens.IDToken = answer.Get("id_token"); tokens.IDToken == "" {
		return nil, fmt.Errorf("%w: it has neither an ID token nor an error", ErrCallback)
	}
	if asked.Token {
		tokens.AccessToken, tokens.TokenType = answer.Get("access_token"), oauth.TokenTypeBearer
		if !printable(tokens.AccessToken) || !strings.EqualFold(answer.Get("token_type"), oauth.TokenTypeBearer) {
			return nil, fmt.Errorf("%w: access_token is missing or malformed, or token_type is not Bearer", ErrCallback)
		}
		lifetime, err := parseLifetime(json.RawMessage(answer.Get("expires_in")))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCallback, err)
		}
		if lifetime > 0 {
			tokens.Expiry = tokens.Issued.Add(lifetime)
		}
		if answer.Has("scope") {
			tokens.Scope = strings.Fields(answer.Get("scope"))
		}
	}
	want := expectedIDToken{nonce: t.Nonce, maxAge: t.MaxAge, accessTokenHash: asked.Token}
	if asked.Code {
		want.code, want.codeHash = answer.Get("code"), true
	}
	var err error
	tokens.Identity, err = c.checkIDToken(ctx, tokens, want)
	return tokens, err
}

// redeemCode takes the tokens for a code. front is what an ID token that came with the
// code said, or nil: both must speak of the same person (OpenID Connect Core, section
// 3.3.3.6).
func (c *Client) redeemCode(ctx context.Context, t *Transaction, code string, front *IDToken) (*Tokens, error) {
	form := url.Values{
		"grant_type":    {oauth.GrantTypeAuthorizationCode},
		"code":          {code},
		"code_verifier": {t.CodeVerifier},
	}
	if t.RedirectURI != "" {
		form.Set("redirect_uri", t.RedirectURI)
	}
	tokens, err := c.requestTokens(ctx, form)
	if err != nil {
		return nil, fmt.Errorf("redeem the code: %w", err)
	}
	if len(tokens.Scope) == 0 {
		// RFC 6749, section 5.1: omitted if it is what was asked for.
		tokens.Scope = t.Scope
	}
	if !t.Scope.Has(oauth.ScopeOpenID) {
		return tokens, nil
	}
	if tokens.IDToken == "" {
		return nil, fmt.Errorf("%w: there is none, though openid was asked for", ErrIDToken)
	}
	want := expectedIDToken{nonce: t.Nonce, maxAge: t.MaxAge, code: code}
	if tokens.Identity, err = c.checkIDToken(ctx, tokens, want); err != nil {
		return nil, err
	}
	if front != nil && front.Subject != tokens.Identity.Subject {
		return nil, fmt.Errorf("%w: the one that came with the code speaks of somebody else", ErrIDToken)
	}
	return tokens, nil
}

// checkCallback checks that an answer belongs to t. The order matters:
// first whose sign-in this is, then which provider speaks, and only then what it says.
func (c *Client) checkCallback(t *Transaction, answer url.Values, now time.Time) (err error) {
	if t.State == "" {
		return fmt.Errorf("%w: its transaction was used", ErrTransaction)
	}
	if len(answer["state"]) != 1 || subtle.ConstantTimeCompare([]byte(t.State), []byte(answer.Get("state"))) != 1 {
		return ErrState
	}
	defer func() {
		if err != nil {
			t.erase()
		}
	}()
	for _, name := range [...]string{"iss", "code", "error", "id_token", "access_token", "token_type", "expires_in", "scope"} {
		if len(answer[name]) > 1 {
			return fmt.Errorf("%w: %s is there more than once", ErrCallback, name)
		}
	}
	if now.After(t.Expires) {
		return fmt.Errorf("%w: it began more than %v ago", ErrTransaction, transactionLifetime)
	}
	if t.Issuer != c.metadata.Issuer {
		return fmt.Errorf("%w: the sign-in began at another provider", ErrMixUp)
	}
	// RFC 9207, section 2.4.
	if issuer, given := answer["iss"]; given {
		if issuer[0] != c.metadata.Issuer {
			return fmt.Errorf("%w: it names the issuer %q", ErrMixUp, tame(issuer[0], 200))
		}
	} else if c.metadata.AuthorizationResponseIssParameterSupported {
		return fmt.Errorf("%w: iss is missing, though the provider always sends it", ErrMixUp)
	}
	if answer.Has("error") {
		return newError(answer.Get("error"), answer.Get("error_description"), answer.Get("error_uri"))
	}
	return nil
}

func (t *Transaction) erase() { t.State, t.Nonce, t.CodeVerifier = "", "", "" }

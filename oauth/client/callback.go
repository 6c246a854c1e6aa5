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

// Callback completes a sign-in with the parameters of the authorization response, and returns
// the tokens. Before it sends any request, it checks that the response belongs to the
// transaction and comes from the provider. Then it validates the ID token in the response, if
// the response type has one, redeems the code, and validates the ID token from the token
// endpoint.
//
// Callback accepts parameters from a query, a posted form or a fragment. The caller must
// reject tokens in a query, because URLs are stored in logs and browser histories.
//
// A transaction can be used for one response. Whatever the result is, state, nonce and
// verifier are erased from t. Only a response with another state leaves t unchanged, so that
// a forged response cannot end a real sign-in. A web application must delete its stored copy
// too. Callback is not safe for concurrent use with the same t.
//
// Errors: *Error for an error from the provider (oauth.AccessDenied if the user denied
// access); ErrState, ErrTransaction, ErrMixUp, ErrCallback, ErrResponse, ErrIDToken.
func (c *Client) Callback(ctx context.Context, t *Transaction, response url.Values) (*Tokens, error) {
	if t.UserSession != "" {
		return nil, fmt.Errorf("%w: it belongs to the session of a user; complete it with CallbackRequest", ErrTransaction)
	}
	return c.complete(ctx, t, response)
}

func (c *Client) complete(ctx context.Context, t *Transaction, response url.Values) (*Tokens, error) {
	response, err := c.openResponse(ctx, t, response)
	if err != nil {
		return nil, err
	}
	if err := c.checkCallback(t, response, time.Now()); err != nil {
		return nil, err
	}
	used := *t
	t.erase()
	asked, ok := oauth.ParseResponseType(used.ResponseType)
	if !ok {
		return nil, fmt.Errorf("%w: the transaction has no valid response type", ErrTransaction)
	}
	if asked.Code && response.Get("code") == "" {
		return nil, fmt.Errorf("%w: it has neither a code nor an error", ErrCallback)
	}
	front, err := c.frontChannelTokens(ctx, asked, &used, response)
	if err != nil || !asked.Code {
		return front, err
	}
	return c.redeemCode(ctx, &used, response.Get("code"), front.Identity)
}

// frontChannelTokens returns the tokens of the authorization response. They came through the
// browser, so the access token and the code are used only if a valid ID token confirms them
// with at_hash and c_hash (OpenID Connect Core, sections 3.2.2.8 to 3.2.2.11 and 3.3.2.8 to
// 3.3.2.11). Without an ID token, as with "code token", the access token is ignored: the token
// endpoint returns an equivalent one directly.
func (c *Client) frontChannelTokens(ctx context.Context, asked oauth.ResponseType, t *Transaction, response url.Values) (*Tokens, error) {
	tokens := &Tokens{Issued: time.Now().Round(0), Scope: t.Scope}
	if !asked.IDToken {
		return tokens, nil
	}
	if tokens.IDToken = response.Get("id_token"); tokens.IDToken == "" {
		return nil, fmt.Errorf("%w: it has neither an ID token nor an error", ErrCallback)
	}
	if asked.Token {
		tokens.AccessToken, tokens.TokenType = response.Get("access_token"), oauth.TokenTypeBearer
		if !printable(tokens.AccessToken) || !strings.EqualFold(response.Get("token_type"), oauth.TokenTypeBearer) {
			return nil, fmt.Errorf("%w: access_token is missing or malformed, or token_type is not Bearer", ErrCallback)
		}
		lifetime, err := parseLifetime(json.RawMessage(response.Get("expires_in")), tenYears)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCallback, err)
		}
		if lifetime > 0 {
			tokens.Expiry = tokens.Issued.Add(lifetime)
		}
		if response.Has("scope") {
			tokens.Scope = strings.Fields(response.Get("scope"))
		}
	}
	want := expectedIDToken{nonce: t.Nonce, maxAge: t.MaxAge, accessTokenHash: asked.Token, stateHash: c.profile.stateHash, state: response.Get("state")}
	if asked.Code {
		want.code, want.codeHash = response.Get("code"), true
	}
	var err error
	tokens.Identity, err = c.checkIDToken(ctx, tokens, want)
	return tokens, err
}

// redeemCode exchanges a code for tokens. front is the ID token from the authorization
// response, or nil; both ID tokens must be about the same user (OpenID Connect Core, section
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
	key := t.DPoPKey
	if key == nil {
		var err error
		if key, err = c.prover.newKey(); err != nil {
			return nil, err
		}
	}
	tokens, err := c.requestBoundTokens(ctx, form, key)
	if err != nil {
		return nil, fmt.Errorf("redeem the code: %w", err)
	}
	if len(tokens.Scope) == 0 {
		// RFC 6749, section 5.1: omitted if it is the requested scope.
		tokens.Scope = t.Scope
	}
	if err := c.profile.checkScope(tokens.Scope, t.Scope); err != nil {
		return nil, err
	}
	if !t.Scope.Has(oauth.ScopeOpenID) {
		return tokens, nil
	}
	if tokens.IDToken == "" {
		return nil, fmt.Errorf("%w: the response has none, although openid was requested", ErrIDToken)
	}
	want := expectedIDToken{nonce: t.Nonce, maxAge: t.MaxAge, code: code}
	if tokens.Identity, err = c.checkIDToken(ctx, tokens, want); err != nil {
		return nil, err
	}
	if front != nil && front.Subject != tokens.Identity.Subject {
		return nil, fmt.Errorf("%w: its sub is not that of the ID token in the authorization response", ErrIDToken)
	}
	return tokens, nil
}

func sameState(t *Transaction, response url.Values) bool {
	return len(response["state"]) == 1 && subtle.ConstantTimeCompare([]byte(t.State), []byte(response.Get("state"))) == 1
}

// checkCallback checks that a response belongs to t. The order matters: first the sign-in,
// then the provider, and only then the content.
func (c *Client) checkCallback(t *Transaction, response url.Values, now time.Time) (err error) {
	if t.State == "" {
		return fmt.Errorf("%w: the transaction was used before", ErrTransaction)
	}
	if !sameState(t, response) {
		return ErrState
	}
	defer func() {
		if err != nil {
			t.erase()
		}
	}()
	for _, name := range [...]string{"iss", "code", "error", "id_token", "access_token", "token_type", "expires_in", "scope"} {
		if len(response[name]) > 1 {
			return fmt.Errorf("%w: duplicate parameter %s", ErrCallback, name)
		}
	}
	if now.After(t.Expires) {
		return fmt.Errorf("%w: it started more than %v ago", ErrTransaction, transactionLifetime)
	}
	if t.Issuer != c.metadata.Issuer || t.ClientID != c.config.ClientID {
		return fmt.Errorf("%w: the sign-in was started with another provider or another client", ErrMixUp)
	}
	// RFC 9207, section 2.4.
	if issuer, given := response["iss"]; given {
		if issuer[0] != c.metadata.Issuer {
			return fmt.Errorf("%w: its iss is %q", ErrMixUp, sanitize(issuer[0], 200))
		}
	} else if c.metadata.AuthorizationResponseIssParameterSupported || c.profile.requiresIssuer {
		return fmt.Errorf("%w: iss is missing, although the provider always sends it", ErrMixUp)
	}
	if response.Has("error") {
		return newError(response.Get("error"), response.Get("error_description"), response.Get("error_uri"))
	}
	return nil
}

func (t *Transaction) erase() { t.State, t.Nonce, t.CodeVerifier, t.DPoPKey = "", "", "", nil }

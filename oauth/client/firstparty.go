package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

// AuthorizationChallenge is a sign-in in the application's own window. It is only for native
// applications of the provider itself (draft-ietf-oauth-first-party-apps, experimental; sections
// are those of draft -04). Use one for each sign-in. It is not safe for concurrent use.
type AuthorizationChallenge struct {
	transaction Transaction
	authSession string
	// requestURI is the request with which the user continues in a browser, until expires.
	requestURI string
	expires    time.Time
}

// Format keeps the code verifier and the auth_session out of logs and error messages, for
// every verb.
func (AuthorizationChallenge) Format(s fmt.State, _ rune) {
	io.WriteString(s, "[authorization challenge]")
}

// LogValue keeps the code verifier and the auth_session out of structured logs.
func (AuthorizationChallenge) LogValue() slog.Value {
	return slog.StringValue("[authorization challenge]")
}

// AuthSession returns the latest auth_session of the provider; "" if there is none. An application
// whose provider continues earlier sign-ins stores it, protected like a token, for
// ResumeAuthorizationChallenge, and deletes it when the user signs out (section 5.3.1).
func (a *AuthorizationChallenge) AuthSession() string { return a.authSession }

// AuthorizationChallenge starts a sign-in for the scopes of Config. It sends no request.
func (c *Client) AuthorizationChallenge() *AuthorizationChallenge {
	return &AuthorizationChallenge{transaction: Transaction{
		Issuer: c.metadata.Issuer, ClientID: c.config.ClientID, ResponseType: "code", State: rand.Text(), Nonce: rand.Text(),
		CodeVerifier: oauth.NewCodeVerifier(), RedirectURI: c.config.RedirectURI, Scope: c.config.Scopes,
	}}
}

// ResumeAuthorizationChallenge is AuthorizationChallenge with the auth_session of an earlier sign-in,
// or of Error.AuthSession. If the provider bound it to a key, Config.DPoPKey must be that key.
func (c *Client) ResumeAuthorizationChallenge(authSession string) *AuthorizationChallenge {
	a := c.AuthorizationChallenge()
	a.authSession = authSession
	return a
}

// ContinueInBrowser returns the URL at which the user continues in a browser after redirect_to_web,
// and the transaction for Callback. It uses the request that the provider has stored already, if
// there is one and options is nil; otherwise it is AuthorizationURL (section
// 5.2.2.1.1). The challenge cannot be used again.
func (c *Client) ContinueInBrowser(ctx context.Context, challenge *AuthorizationChallenge, options *AuthorizationOptions) (string, *Transaction, error) {
	t, requestURI := challenge.transaction, challenge.requestURI
	challenge.transaction.erase()
	if options != nil || requestURI == "" || t.CodeVerifier == "" || !time.Now().Before(challenge.expires) {
		if options == nil {
			options = &AuthorizationOptions{}
		}
		return c.AuthorizationURL(ctx, *options)
	}
	endpoint, err := url.Parse(c.metadata.AuthorizationEndpoint)
	if err != nil || endpoint.Host == "" {
		return "", nil, fmt.Errorf("%w: authorization_endpoint is missing or not a URL", ErrMetadata)
	}
	query := endpoint.Query()
	query.Set("client_id", c.config.ClientID)
	query.Set("request_uri", requestURI)
	endpoint.RawQuery = query.Encode()
	t.Expires = time.Now().Add(transactionLifetime).Round(time.Second)
	return endpoint.String(), &t, nil
}

// SignIn sends a username and a password, and returns the tokens. After an *Error with the
// code insufficient_authorization the user can try again with the same challenge. After
// redirect_to_web the user must continue in a browser (ContinueInBrowser). After
// temporarily_unavailable, wait for RetryAfter. After success or any other error, start a new
// challenge.
func (c *Client) SignIn(ctx context.Context, challenge *AuthorizationChallenge, username, password string) (*Tokens, error) {
	if challenge.transaction.CodeVerifier == "" {
		return nil, ErrTransaction
	}
	code, err := c.respondToChallenge(ctx, challenge, username, password)
	if challenge.authSession != "" && errors.Is(err, &Error{Code: oauth.InvalidSession}) {
		// It has expired, or a response was lost. The password was not checked.
		challenge.authSession = ""
		code, err = c.respondToChallenge(ctx, challenge, username, password)
	}
	if err != nil {
		return nil, fmt.Errorf("sign in with a password: %w", err)
	}
	used := challenge.transaction
	used.RedirectURI = "" // it was not sent (section 6)
	challenge.transaction.erase()
	tokens, err := c.redeemCode(ctx, &used, code, nil)
	if err == nil && tokens.AuthSession != "" {
		challenge.authSession = tokens.AuthSession
	}
	return tokens, err
}

// respondToChallenge sends the credentials and returns the code (section 5.2.1).
func (c *Client) respondToChallenge(ctx context.Context, challenge *AuthorizationChallenge, username, password string) (string, error) {
	if c.metadata.AuthorizationChallengeEndpoint == "" {
		return "", fmt.Errorf("%w: its metadata has no authorization_challenge_endpoint", ErrUnsupported)
	}
	t := &challenge.transaction
	form := url.Values{
		"response_type": {"code"}, "username": {username}, "password": {password},
		"code_challenge": {oauth.S256Challenge(t.CodeVerifier)}, "code_challenge_method": {oauth.CodeChallengeMethodS256},
	}
	if len(t.Scope) > 0 {
		form.Set("scope", t.Scope.String())
	}
	form.Set("state", t.State) // for a response in the browser
	if t.Scope.Has(oauth.ScopeOpenID) {
		form.Set("nonce", t.Nonce)
	}
	for _, resource := range c.config.Resources {
		form.Add("resource", resource)
	}
	if challenge.authSession != "" {
		form.Set("auth_session", challenge.authSession)
	}
	if t.DPoPKey == nil {
		key, err := c.prover.newKey()
		if err != nil {
			return "", err
		}
		t.DPoPKey = c.prover.stored(key)
	}
	key := t.DPoPKey
	if key == nil {
		key = c.prover.fixed
	}
	got, err := c.postBound(ctx, c.metadata.AuthorizationChallengeEndpoint, form, key)
	if err != nil {
		return "", err
	}
	var response struct {
		Code        string `json:"authorization_code"`
		AuthSession string `json:"auth_session"`
		oauth.PushedAuthorizationResponse
	}
	err = json.Unmarshal(got.body, &response)
	if response.AuthSession != "" {
		challenge.authSession = response.AuthSession
	}
	if challenge.requestURI = ""; printable(response.RequestURI) {
		challenge.requestURI = response.RequestURI
		challenge.expires = time.Now().Add(time.Duration(min(max(response.ExpiresIn, 1), 600)) * time.Second)
	}
	switch {
	case got.status != http.StatusOK:
		return "", parseError(got)
	case err != nil:
		return "", fmt.Errorf("%w: authorization code: %w", ErrResponse, err)
	case response.Code == "":
		return "", fmt.Errorf("%w: it has no authorization_code", ErrResponse)
	}
	return response.Code, nil
}

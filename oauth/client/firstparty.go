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

	"github.com/valetkey/valetkey/oauth"
)

// AuthorizationChallenge is a sign-in in the application's own window. It is only for native
// applications of the provider itself (draft-ietf-oauth-first-party-apps, experimental). Use
// one for each sign-in. It is not safe for concurrent use.
type AuthorizationChallenge struct {
	transaction Transaction
	authSession string
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

// AuthorizationChallenge starts a sign-in for the scopes of Config. It sends no request.
func (c *Client) AuthorizationChallenge() *AuthorizationChallenge {
	return &AuthorizationChallenge{transaction: Transaction{
		Nonce: rand.Text(), CodeVerifier: oauth.NewCodeVerifier(), Scope: c.config.Scopes,
	}}
}

// SignIn sends a username and a password, and returns the tokens. After an *Error with the
// code insufficient_authorization the user can try again with the same challenge. After
// redirect_to_web the user must continue in a browser (AuthorizationURL). After
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
	challenge.transaction.erase()
	return c.redeemCode(ctx, &used, code, nil)
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
	if t.Scope.Has(oauth.ScopeOpenID) {
		form.Set("nonce", t.Nonce)
	}
	for _, resource := range c.config.Resources {
		form.Add("resource", resource)
	}
	if challenge.authSession != "" {
		form.Set("auth_session", challenge.authSession)
	}
	if t.DPoPKey == nil && challenge.authSession == "" {
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
	}
	err = json.Unmarshal(got.body, &response)
	if response.AuthSession != "" {
		challenge.authSession = response.AuthSession
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

package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/dpop"
)

// TokenExchangeRequest has the parameters of a token exchange (RFC 8693, section 2.1). Only
// SubjectToken is required.
type TokenExchangeRequest struct {
	// SubjectToken represents the user that the new token will be about. SubjectTokenType is
	// one of oauth.TokenType…; empty means an access token.
	SubjectToken, SubjectTokenType string
	// ActorToken represents the party that acts for the subject. Empty requests impersonation,
	// or what the server's policy makes of it. ActorTokenType is like SubjectTokenType.
	ActorToken, ActorTokenType string
	// RequestedTokenType is one of oauth.TokenType…; empty means the server's default,
	// usually an access token.
	RequestedTokenType string
	// Resources, Audiences and Scopes are requested for the new token. Those of Config are not
	// sent.
	Resources, Audiences []string
	Scopes               []string
	// DPoPKey is the key that the new token is bound to (RFC 9449). For a token of this client, it
	// is the key of that token. nil means a new key with Config.DPoP, and otherwise a bearer token.
	DPoPKey *dpop.Key
	// Parameters are additional parameters, for example of a profile of token exchange.
	Parameters url.Values
}

// ExchangedToken is the result of a token exchange (RFC 8693, section 2.2.1).
type ExchangedToken struct {
	// Token has the type IssuedTokenType. Send it to an API only if TokenType is Bearer,
	// or with proofs of DPoPKey if it is DPoP.
	Token           string
	IssuedTokenType string
	TokenType       string
	// Expiry is zero without expires_in.
	Expiry       time.Time
	Scope        oauth.Scope
	RefreshToken string
	// DPoPKey is the key that the token is bound to, unless that is Config.DPoPKey.
	DPoPKey *dpop.Key
}

// Format keeps tokens out of logs and error messages, for every verb.
func (ExchangedToken) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[token]") }

// LogValue keeps tokens out of structured logs.
func (ExchangedToken) LogValue() slog.Value { return slog.StringValue("[token]") }

// TokenExchange exchanges a token for another one (RFC 8693): for a downstream API, for a user
// on whose behalf the client acts, or for an assertion for another authorization server. If
// the server rejects the request, the error is an *Error.
func (c *Client) TokenExchange(ctx context.Context, r TokenExchangeRequest) (*ExchangedToken, error) {
	if c.metadata.TokenEndpoint == "" {
		return nil, fmt.Errorf("%w: its metadata has no token_endpoint", ErrUnsupported)
	}
	if r.SubjectToken == "" {
		return nil, errors.New("exchange a token: SubjectToken is required")
	}
	form := url.Values{}
	for name, values := range r.Parameters {
		form[name] = values
	}
	typeOr := func(name string) string {
		if name == "" {
			return oauth.TokenTypeAccessToken
		}
		return name
	}
	form.Set("grant_type", oauth.GrantTypeTokenExchange)
	form.Set("subject_token", r.SubjectToken)
	form.Set("subject_token_type", typeOr(r.SubjectTokenType))
	if r.ActorToken != "" {
		form.Set("actor_token", r.ActorToken)
		form.Set("actor_token_type", typeOr(r.ActorTokenType))
	}
	if r.RequestedTokenType != "" {
		form.Set("requested_token_type", r.RequestedTokenType)
	}
	for name, values := range map[string][]string{"resource": r.Resources, "audience": r.Audiences} {
		for _, value := range values {
			form.Add(name, value)
		}
	}
	if len(r.Scopes) > 0 {
		form.Set("scope", oauth.Scope(r.Scopes).String())
	}
	now := time.Now()
	key := r.DPoPKey
	if key == nil {
		var err error
		if key, err = c.prover.newKey(); err != nil {
			return nil, err
		}
	}
	got, err := c.postBound(ctx, c.metadata.TokenEndpoint, form, key)
	if err != nil {
		return nil, fmt.Errorf("exchange a token: %w", err)
	}
	token, err := parseExchanged(got, now)
	if err != nil {
		return nil, fmt.Errorf("exchange a token: %w", err)
	}
	if strings.EqualFold(token.TokenType, oauth.TokenTypeDPoP) {
		token.DPoPKey = c.prover.stored(key)
	}
	if token.Scope == nil {
		token.Scope = r.Scopes
	}
	return token, nil
}

// parseExchanged parses a response (RFC 8693, section 2.2.1). The type is required, because a
// token of unknown type could be misused.
func parseExchanged(got *response, now time.Time) (*ExchangedToken, error) {
	if got.status != http.StatusOK {
		return nil, parseError(got)
	}
	var members struct {
		AccessToken     string          `json:"access_token"`
		IssuedTokenType string          `json:"issued_token_type"`
		TokenType       string          `json:"token_type"`
		ExpiresIn       json.RawMessage `json:"expires_in"`
		Scope           string          `json:"scope"`
		RefreshToken    string          `json:"refresh_token"`
	}
	if err := json.Unmarshal(got.body, &members); err != nil {
		return nil, fmt.Errorf("%w: the token endpoint sent %s, not a JSON object as in RFC 8693, section 2.2.1", ErrResponse, describe(got))
	}
	if !printable(members.AccessToken) || members.IssuedTokenType == "" || members.TokenType == "" {
		return nil, fmt.Errorf("%w: access_token, issued_token_type or token_type is missing or malformed", ErrResponse)
	}
	lifetime, err := parseLifetime(members.ExpiresIn, tenYears)
	if err != nil {
		return nil, err
	}
	token := &ExchangedToken{
		Token: members.AccessToken, IssuedTokenType: members.IssuedTokenType, TokenType: members.TokenType,
		Scope: strings.Fields(members.Scope), RefreshToken: members.RefreshToken,
	}
	if lifetime > 0 {
		token.Expiry = now.Round(0).Add(lifetime)
	}
	return token, nil
}

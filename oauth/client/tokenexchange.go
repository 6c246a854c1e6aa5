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
)

// TokenExchangeRequest is a token with what it shall be exchanged for (RFC 8693, section
// 2.1).
type TokenExchangeRequest struct {
	// SubjectToken is about whom the new token will be. SubjectTokenType is one of
	// oauth.TokenType…; empty means an access token.
	SubjectToken, SubjectTokenType string
	// ActorToken is who acts for the subject; empty asks for impersonation, or for what the
	// server makes of it. ActorTokenType is empty for an access token.
	ActorToken, ActorTokenType string
	// RequestedTokenType is one of oauth.TokenType…; empty leaves it to the server, which
	// will make an access token.
	RequestedTokenType string
	// Resources, Audiences and Scopes are what the new token shall be for. Those of Config
	// are not sent.
	Resources, Audiences []string
	Scopes               []string
	// Parameters are sent beside these, such as those of a profile of token exchange.
	Parameters url.Values
}

// ExchangedToken is what a token was exchanged for (RFC 8693, section 2.2.1).
type ExchangedToken struct {
	// Token is of IssuedTokenType. Only if TokenType is Bearer can an API be called with it.
	Token           string
	IssuedTokenType string
	TokenType       string
	// Expiry is zero if the server did not say.
	Expiry       time.Time
	Scope        oauth.Scope
	RefreshToken string
}

// Format keeps tokens out of logs and messages, whatever the verb.
func (ExchangedToken) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[token]") }

// LogValue keeps tokens out of structured logs.
func (ExchangedToken) LogValue() slog.Value { return slog.StringValue("[token]") }

// TokenExchange exchanges a token for another one (RFC 8693): for the API behind one's own,
// for somebody for whom one acts, or for a grant that another authorization server takes. A
// refusal is an *Error.
func (c *Client) TokenExchange(ctx context.Context, r TokenExchangeRequest) (*ExchangedToken, error) {
	if c.metadata.TokenEndpoint == "" {
		return nil, fmt.Errorf("%w: its metadata has no token_endpoint", ErrUnsupported)
	}
	if r.SubjectToken == "" {
		return nil, errors.New("exchange a token: there is no SubjectToken")
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
	got, err := c.post(ctx, c.metadata.TokenEndpoint, form)
	if err != nil {
		return nil, fmt.Errorf("exchange a token: %w", err)
	}
	token, err := parseExchanged(got, now)
	if err != nil {
		return nil, fmt.Errorf("exchange a token: %w", err)
	}
	if token.Scope == nil {
		token.Scope = r.Scopes
	}
	return token, nil
}

// parseExchanged reads an answer (RFC 8693, section 2.2.1). A token whose type is not known
// is no use, and could be taken for what it is not.
func parseExchanged(got *answer, now time.Time) (*ExchangedToken, error) {
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
		return nil, fmt.Errorf("%w: the token endpoint sent %s that is not the JSON object of RFC 8693, section 2.2.1", ErrAnswer, describe(got))
	}
	if !printable(members.AccessToken) || members.IssuedTokenType == "" || members.TokenType == "" {
		return nil, fmt.Errorf("%w: access_token, issued_token_type or token_type is missing or malformed", ErrAnswer)
	}
	lifetime, err := parseLifetime(members.ExpiresIn)
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

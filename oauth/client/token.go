package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/dpop"
)

// Tokens are the tokens of a grant. They can be stored as JSON; protect it like a password.
// Printing them shows nothing.
type Tokens struct {
	AccessToken string `json:"access_token"`
	// TokenType is "Bearer", or "DPoP" for a token that is bound to a key.
	TokenType string `json:"token_type"`
	// DPoPKey is the key that the tokens are bound to (Config.DPoP).
	DPoPKey *dpop.Key `json:"dpop_key,omitempty"`
	// Expiry is when the access token expires; zero without expires_in.
	Expiry time.Time `json:"expiry,omitzero"`
	// Issued is when the access token was received.
	Issued       time.Time `json:"issued"`
	RefreshToken string    `json:"refresh_token,omitempty"`
	// RefreshTokenExpiry is when the refresh token expires if it is not used before, and
	// AuthorizationExpiry is when the user must authorize the client again; zero if the provider
	// does not say so (draft-ietf-oauth-refresh-token-expiration, experimental).
	RefreshTokenExpiry  time.Time `json:"refresh_token_expiry,omitzero"`
	AuthorizationExpiry time.Time `json:"authorization_expiry,omitzero"`
	// Scope is the granted scope: the requested one, unless the provider sent another.
	Scope oauth.Scope `json:"scope,omitempty"`
	// Details are the authorization details of the access token (RFC 9396, section 7).
	Details []json.RawMessage `json:"authorization_details,omitempty"`
	// IDToken is the raw ID token, for LogoutOptions.IDTokenHint. Identity has its validated
	// claims. Both are empty without the scope "openid".
	IDToken  string   `json:"id_token,omitempty"`
	Identity *IDToken `json:"identity,omitempty"`
	// AuthSession is for Client.ResumeAuthorizationChallenge; "" if the provider sent none
	// (draft-ietf-oauth-first-party-apps, section 6.1, experimental).
	AuthSession string `json:"auth_session,omitempty"`
}

// Format keeps tokens out of logs and error messages, for every verb.
func (Tokens) Format(s fmt.State, _ rune) { io.WriteString(s, "[tokens]") }

// LogValue keeps tokens out of structured logs.
func (Tokens) LogValue() slog.Value { return slog.StringValue("[tokens]") }

// OAuth2 returns the tokens as an oauth2.Token, with the ID token as the extra "id_token". Package
// oauth2 cannot send proofs, so it cannot use a token that is bound to a key.
func (t *Tokens) OAuth2() *oauth2.Token {
	token := &oauth2.Token{
		AccessToken:  t.AccessToken,
		TokenType:    t.TokenType,
		RefreshToken: t.RefreshToken,
		Expiry:       t.Expiry,
	}
	if t.IDToken != "" {
		return token.WithExtra(map[string]any{"id_token": t.IDToken})
	}
	return token
}

// requestTokens sends one request to the token endpoint (RFC 6749, section 3.2). With Config.DPoP,
// the tokens are bound to a new key.
func (c *Client) requestTokens(ctx context.Context, form url.Values) (*Tokens, error) {
	key, err := c.prover.newKey()
	if err != nil {
		return nil, err
	}
	return c.requestBoundTokens(ctx, form, key)
}

// requestBoundTokens is requestTokens with a key; nil requests bearer tokens.
func (c *Client) requestBoundTokens(ctx context.Context, form url.Values, key *dpop.Key) (*Tokens, error) {
	if c.metadata.TokenEndpoint == "" {
		return nil, fmt.Errorf("%w: its metadata has no token_endpoint", ErrUnsupported)
	}
	for _, resource := range c.config.Resources {
		form.Add("resource", resource)
	}
	now := time.Now()
	got, err := c.postBound(ctx, c.metadata.TokenEndpoint, form, key)
	if err != nil {
		return nil, err
	}
	tokens, err := parseTokens(got, now, key)
	if err != nil {
		return nil, err
	}
	tokens.DPoPKey = c.prover.stored(key)
	return tokens, nil
}

// parseTokens parses a response of the token endpoint (RFC 6749, sections 5.1 and 5.2). It is
// strict about tokens and lenient about numbers: expires_in may be a string, and zero means
// that it is missing. now is when the request was sent, and key the key of its proof.
func parseTokens(got *response, now time.Time, key *dpop.Key) (*Tokens, error) {
	var members struct {
		AccessToken  string          `json:"access_token"`
		TokenType    string          `json:"token_type"`
		ExpiresIn    json.RawMessage `json:"expires_in"`
		RefreshToken string          `json:"refresh_token"`
		Scope        string          `json:"scope"`
		IDToken      string          `json:"id_token"`
		Error        string          `json:"error"`
		AuthSession  string          `json:"auth_session"`

		Details []json.RawMessage `json:"authorization_details"`

		RefreshTokenTimeout    json.RawMessage `json:"refresh_token_timeout"`
		AuthorizationExpiresIn json.RawMessage `json:"authorization_expires_in"`
	}
	if got.status != http.StatusOK {
		return nil, parseError(got)
	}
	if err := json.Unmarshal(got.body, &members); err != nil {
		return nil, fmt.Errorf("%w: the token endpoint sent %s, not a JSON object as in RFC 6749, section 5.1", ErrResponse, describe(got))
	}
	// Some providers report errors with status 200.
	if members.Error != "" && members.AccessToken == "" {
		return nil, parseError(got)
	}
	if !printable(members.AccessToken) {
		return nil, fmt.Errorf("%w: access_token is missing or malformed", ErrResponse)
	}
	tokenType, err := checkTokenType(members.TokenType, key)
	if err != nil {
		return nil, err
	}
	lifetime, err := parseLifetime(members.ExpiresIn, tenYears)
	if err != nil {
		return nil, err
	}
	tokens := &Tokens{
		AccessToken:  members.AccessToken,
		TokenType:    tokenType,
		Issued:       now.Round(0),
		RefreshToken: members.RefreshToken,
		Scope:        strings.Fields(members.Scope),
		Details:      members.Details,
		IDToken:      members.IDToken,
		AuthSession:  members.AuthSession,
	}
	if lifetime > 0 {
		tokens.Expiry = tokens.Issued.Add(lifetime)
	}
	// A malformed value of an experimental member is ignored. A large one is taken literally
	// (draft-ietf-oauth-refresh-token-expiration, section 6.1.2).
	if timeout, err := parseLifetime(members.RefreshTokenTimeout, math.MaxInt64); err == nil && timeout > 0 {
		tokens.RefreshTokenExpiry = tokens.Issued.Add(timeout)
	}
	if lifetime, err := parseLifetime(members.AuthorizationExpiresIn, math.MaxInt64); err == nil && lifetime > 0 {
		tokens.AuthorizationExpiry = tokens.Issued.Add(lifetime)
	}
	return tokens, nil
}

const tenYears = 10 * 365 * 24 * time.Hour

// parseLifetime parses expires_in; 0 if there is none. A longer one than limit is shortened.
func parseLifetime(raw json.RawMessage, limit time.Duration) (time.Duration, error) {
	text := strings.Trim(string(raw), `"`)
	if text == "" || text == "null" {
		return 0, nil
	}
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(seconds) || seconds < 0 {
		return 0, fmt.Errorf("%w: expires_in must be a number of seconds", ErrResponse)
	}
	if seconds >= limit.Seconds() {
		return limit, nil
	}
	return time.Duration(seconds) * time.Second, nil
}

// parseError parses an error response (RFC 6749, section 5.2), or describes the response that
// was sent instead.
func parseError(got *response) error {
	var members struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
		URI         string `json:"error_uri"`
		AuthSession string `json:"auth_session"`
	}
	if err := json.Unmarshal(got.body, &members); err != nil || members.Error == "" {
		return fmt.Errorf("%w: status %d with %s", ErrResponse, got.status, describe(got))
	}
	e := newError(members.Error, members.Description, members.URI)
	e.Status = got.status
	e.RetryAfter = retryAfter(got.header)
	e.authSession = members.AuthSession
	return e
}

// describe returns the kind of a response, because its content may be secret.
func describe(got *response) string {
	kind := sanitize(got.header.Get("Content-Type"), 60)
	if kind == "" {
		kind = "content without a Content-Type"
	}
	return kind
}

// printable implements 1*VSCHAR (RFC 6749, appendix A.12).
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return s != ""
}

package client

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

// AuthorizationOptions are what one sign-in asks for beyond the client's Config. The
// zero value asks for nothing special. Names are those of OpenID Connect Core, section
// 3.1.2.1.
type AuthorizationOptions struct {
	// RedirectURI replaces the one of Config.
	RedirectURI string
	// Scopes replace those of Config; nil keeps them.
	Scopes []string
	Prompt []string
	// MaxAge is how long ago the person may have signed in; nil means any time. The ID
	// token must then say when they did, and is checked.
	MaxAge       *time.Duration
	LoginHint    string
	IDTokenHint  string
	ACRValues    []string
	UILocales    []string
	ResponseMode string
	Claims       *oauth.ClaimsRequest
	// Extra are further parameters. They cannot replace those that the client sets.
	Extra url.Values
}

// Transaction is one sign-in that is under way: what Callback needs to know that the
// answer belongs to it. Keep it, as JSON, where only this browser's requests reach it: in
// the server's session, or in a cookie that is HttpOnly, Secure and SameSite=Lax.
type Transaction struct {
	Issuer       string      `json:"issuer"`
	State        string      `json:"state"`
	Nonce        string      `json:"nonce,omitempty"`
	CodeVerifier string      `json:"code_verifier"`
	RedirectURI  string      `json:"redirect_uri"`
	Scope        oauth.Scope `json:"scope,omitempty"`
	// MaxAge is in seconds.
	MaxAge  *int64    `json:"max_age,omitempty"`
	Expires time.Time `json:"expires"`
}

// Format keeps the code verifier out of logs and messages, whatever the verb.
func (Transaction) Format(s fmt.State, _ rune) { io.WriteString(s, "[transaction]") }

// LogValue keeps the code verifier out of structured logs.
func (Transaction) LogValue() slog.Value { return slog.StringValue("[transaction]") }

// AuthorizationURL begins a sign-in: send the browser to the URL and keep the
// transaction for Callback. Each call makes a state, a nonce and a PKCE verifier of its
// own, so that several tabs can sign in at once.
func (c *Client) AuthorizationURL(options AuthorizationOptions) (string, *Transaction, error) {
	if c.metadata.AuthorizationEndpoint == "" {
		return "", nil, fmt.Errorf("%w: its metadata has no authorization_endpoint", ErrUnsupported)
	}
	endpoint, err := url.Parse(c.metadata.AuthorizationEndpoint)
	if err != nil {
		return "", nil, fmt.Errorf("%w: authorization_endpoint: %w", ErrMetadata, err)
	}
	t := &Transaction{
		Issuer:       c.metadata.Issuer,
		State:        rand.Text(),
		CodeVerifier: oauth.NewCodeVerifier(),
		RedirectURI:  options.RedirectURI,
		Scope:        options.Scopes,
		Expires:      time.Now().Add(transactionLifetime).Round(time.Second),
	}
	if t.RedirectURI == "" {
		t.RedirectURI = c.config.RedirectURI
	}
	if t.Scope == nil {
		t.Scope = c.config.Scopes
	}
	query := url.Values{}
	for name, values := range options.Extra {
		query[name] = slices.Clone(values)
	}
	// The endpoint may have a query of its own, which stays (RFC 6749, section 3.1).
	for name, values := range endpoint.Query() {
		query[name] = values
	}
	set := func(name, value string) {
		if value != "" {
			query.Set(name, value)
		}
	}
	set("response_type", "code")
	set("client_id", c.config.ClientID)
	set("redirect_uri", t.RedirectURI)
	set("scope", t.Scope.String())
	set("state", t.State)
	set("code_challenge", oauth.S256Challenge(t.CodeVerifier))
	set("code_challenge_method", oauth.CodeChallengeMethodS256)
	if t.Scope.Has(oauth.ScopeOpenID) {
		t.Nonce = rand.Text()
		set("nonce", t.Nonce)
	}
	set("prompt", strings.Join(options.Prompt, " "))
	if options.MaxAge != nil {
		seconds := int64(*options.MaxAge / time.Second)
		t.MaxAge = &seconds
		set("max_age", strconv.FormatInt(seconds, 10))
	}
	set("login_hint", options.LoginHint)
	set("id_token_hint", options.IDTokenHint)
	set("acr_values", strings.Join(options.ACRValues, " "))
	set("ui_locales", strings.Join(options.UILocales, " "))
	set("response_mode", options.ResponseMode)
	if options.Claims != nil {
		claims, err := json.Marshal(options.Claims)
		if err != nil {
			return "", nil, fmt.Errorf("client: claims parameter: %w", err)
		}
		set("claims", string(claims))
	}
	if len(c.config.Resources) > 0 {
		query["resource"] = c.config.Resources
	}
	endpoint.RawQuery = query.Encode()
	return endpoint.String(), t, nil
}

// Callback ends a sign-in with the parameters that came to the redirect URI, and returns
// the tokens. It checks that the answer belongs to the transaction and comes from the
// provider before it says anything to anybody; then it redeems the code and checks the
// ID token.
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
	code, err := c.checkCallback(t, answer, time.Now())
	if err != nil {
		return nil, err
	}
	used := *t
	t.erase()
	if code == "" {
		return nil, fmt.Errorf("%w: it has neither a code nor an error", ErrCallback)
	}
	tokens, err := c.requestTokens(ctx, url.Values{
		"grant_type":    {oauth.GrantTypeAuthorizationCode},
		"code":          {code},
		"redirect_uri":  {used.RedirectURI},
		"code_verifier": {used.CodeVerifier},
	})
	if err != nil {
		return nil, fmt.Errorf("redeem the code: %w", err)
	}
	if len(tokens.Scope) == 0 {
		// RFC 6749, section 5.1: omitted if it is what was asked for.
		tokens.Scope = used.Scope
	}
	if !used.Scope.Has(oauth.ScopeOpenID) {
		return tokens, nil
	}
	if tokens.IDToken == "" {
		return nil, fmt.Errorf("%w: there is none, though openid was asked for", ErrIDToken)
	}
	tokens.Identity, err = c.checkIDToken(ctx, tokens, expectedIDToken{nonce: used.Nonce, maxAge: used.MaxAge})
	if err != nil {
		return nil, err
	}
	return tokens, nil
}

// checkCallback returns the code of an answer that belongs to t. The order matters:
// first whose sign-in this is, then which provider speaks, and only then what it says.
func (c *Client) checkCallback(t *Transaction, answer url.Values, now time.Time) (code string, err error) {
	if t.State == "" || t.CodeVerifier == "" {
		return "", fmt.Errorf("%w: its transaction was used", ErrTransaction)
	}
	if len(answer["state"]) != 1 || subtle.ConstantTimeCompare([]byte(t.State), []byte(answer.Get("state"))) != 1 {
		return "", ErrState
	}
	defer func() {
		if err != nil {
			t.erase()
		}
	}()
	for _, name := range [...]string{"iss", "code", "error"} {
		if len(answer[name]) > 1 {
			return "", fmt.Errorf("%w: %s is there more than once", ErrCallback, name)
		}
	}
	if now.After(t.Expires) {
		return "", fmt.Errorf("%w: it began more than %v ago", ErrTransaction, transactionLifetime)
	}
	if t.Issuer != c.metadata.Issuer {
		return "", fmt.Errorf("%w: the sign-in began at another provider", ErrMixUp)
	}
	// RFC 9207, section 2.4.
	if issuer, given := answer["iss"]; given {
		if issuer[0] != c.metadata.Issuer {
			return "", fmt.Errorf("%w: it names the issuer %q", ErrMixUp, tame(issuer[0], 200))
		}
	} else if c.metadata.AuthorizationResponseIssParameterSupported {
		return "", fmt.Errorf("%w: iss is missing, though the provider always sends it", ErrMixUp)
	}
	if answer.Has("error") {
		return "", newError(answer.Get("error"), answer.Get("error_description"), answer.Get("error_uri"))
	}
	return answer.Get("code"), nil
}

func (t *Transaction) erase() { t.State, t.Nonce, t.CodeVerifier = "", "", "" }

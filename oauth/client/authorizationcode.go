package client

import (
	"crypto/rand"
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
	MaxAge      *time.Duration
	LoginHint   string
	IDTokenHint string
	ACRValues   []string
	UILocales   []string
	// ResponseMode is how the provider answers; empty means as a query if nothing but a
	// code is asked for, else as a fragment.
	ResponseMode string
	Claims       *oauth.ClaimsRequest
	// RequestURI publishes a request object and returns the URL at which the provider can
	// fetch it, soon and once (OpenID Connect Core, section 6.2). With nil the object
	// goes by value. It is called only if Config.RequestObjectSigningAlg is set.
	RequestURI func(object string) (string, error)
	// Extra are further parameters. They cannot replace those that the client sets.
	Extra url.Values
}

// Transaction is one sign-in that is under way: what Callback needs to know that the
// answer belongs to it. Keep it, as JSON, where only this browser's requests reach it: in
// the server's session, or in a cookie that is HttpOnly, Secure and SameSite=Lax.
type Transaction struct {
	Issuer       string      `json:"issuer"`
	ResponseType string      `json:"response_type"`
	State        string      `json:"state"`
	Nonce        string      `json:"nonce,omitempty"`
	CodeVerifier string      `json:"code_verifier,omitempty"`
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
		ResponseType: c.responseType.String(),
		State:        rand.Text(),
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
	if c.responseType.FrontChannel() {
		// Without an ID token nothing ties what the browser brings to this sign-in.
		if !t.Scope.Has(oauth.ScopeOpenID) {
			return "", nil, fmt.Errorf("client: response type %q needs the scope openid", t.ResponseType)
		}
		// Tokens do not belong in a query (OAuth 2.0 Multiple Response Type Encoding
		// Practices, section 3.0).
		if options.ResponseMode == "query" {
			return "", nil, fmt.Errorf("client: response type %q cannot have the response mode query", t.ResponseType)
		}
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
	set("response_type", t.ResponseType)
	set("client_id", c.config.ClientID)
	set("redirect_uri", t.RedirectURI)
	set("scope", t.Scope.String())
	set("state", t.State)
	if c.responseType.Code {
		t.CodeVerifier = oauth.NewCodeVerifier()
		set("code_challenge", oauth.S256Challenge(t.CodeVerifier))
		set("code_challenge_method", oauth.CodeChallengeMethodS256)
	}
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
	if c.config.RequestObjectSigningAlg != "" {
		if query, err = c.byRequestObject(query, endpoint.Query(), options.RequestURI, time.Now()); err != nil {
			return "", nil, err
		}
	}
	endpoint.RawQuery = query.Encode()
	return endpoint.String(), t, nil
}

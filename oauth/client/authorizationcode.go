package client

import (
	"context"
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
	"github.com/valetkey/valetkey/oauth/dpop"
)

// AuthorizationOptions are options of one sign-in, in addition to the client's Config. All
// are optional. The names are those of OpenID Connect Core, section 3.1.2.1.
type AuthorizationOptions struct {
	// RedirectURI replaces the one of Config.
	RedirectURI string
	// Scopes replace those of Config; nil keeps them.
	Scopes []string
	Prompt []string
	// MaxAge is how long ago the user may have signed in; nil means any time. If it is set,
	// auth_time in the ID token is required and checked.
	MaxAge      *time.Duration
	LoginHint   string
	IDTokenHint string
	ACRValues   []string
	UILocales   []string
	// ResponseMode is how the response is returned. Empty means query for the response type
	// code, and fragment for the others.
	ResponseMode string
	Claims       *oauth.ClaimsRequest
	// AuthorizationDetails are objects that say in detail what the user is asked to allow (RFC
	// 9396). Each is encoded as JSON. They replace those of Config; nil keeps them.
	AuthorizationDetails []any
	// RequestURI publishes a request object and returns the URL at which the provider can
	// fetch it, soon and once (OpenID Connect Core, section 6.2). If it is nil, or if
	// authorization requests are pushed, the object is sent by value. It is called only if
	// Config.RequestObjectSigningAlg is set.
	RequestURI func(object string) (string, error)
	// Extra are additional parameters. They cannot replace those that the client sets.
	Extra url.Values
	// UserSession identifies the session of the application's own user who starts the
	// authorization, if it connects an account at the provider with that user. It can be the
	// value of the session cookie. The authorization can then be completed only with
	// CallbackRequest, in the same session. Only a hash is stored.
	UserSession string
}

// Transaction is one sign-in in progress. Callback needs it to check that a response belongs
// to this sign-in. Store it as JSON, bound to this browser: in the session on the server, or
// in an encrypted cookie that is HttpOnly, Secure and SameSite=Lax.
type Transaction struct {
	Issuer       string      `json:"issuer"`
	ClientID     string      `json:"client_id"`
	ResponseType string      `json:"response_type"`
	State        string      `json:"state"`
	Nonce        string      `json:"nonce,omitempty"`
	CodeVerifier string      `json:"code_verifier,omitempty"`
	RedirectURI  string      `json:"redirect_uri"`
	Scope        oauth.Scope `json:"scope,omitempty"`
	// MaxAge is in seconds.
	MaxAge *int64 `json:"max_age,omitempty"`
	// DPoPKey is the key that the code and the tokens are bound to.
	DPoPKey *dpop.Key `json:"dpop_key,omitempty"`
	// UserSession is the hash of AuthorizationOptions.UserSession.
	UserSession string    `json:"user_session,omitempty"`
	Expires     time.Time `json:"expires"`
}

// Format keeps the code verifier out of logs and error messages, for every verb.
func (Transaction) Format(s fmt.State, _ rune) { io.WriteString(s, "[transaction]") }

// LogValue keeps the code verifier out of structured logs.
func (Transaction) LogValue() slog.Value { return slog.StringValue("[transaction]") }

// AuthorizationURL starts a sign-in: redirect the browser to the URL and store the
// transaction for Callback. Each call generates a new state, nonce and PKCE verifier, so that
// several tabs can sign in at the same time. It sends a request only if authorization requests are
// pushed (Config.PushAuthorizationRequests).
func (c *Client) AuthorizationURL(ctx context.Context, options AuthorizationOptions) (string, *Transaction, error) {
	if c.metadata.AuthorizationEndpoint == "" {
		return "", nil, fmt.Errorf("%w: its metadata has no authorization_endpoint", ErrUnsupported)
	}
	endpoint, err := url.Parse(c.metadata.AuthorizationEndpoint)
	if err != nil {
		return "", nil, fmt.Errorf("%w: authorization_endpoint: %w", ErrMetadata, err)
	}
	t := &Transaction{
		Issuer:       c.metadata.Issuer,
		ClientID:     c.config.ClientID,
		UserSession:  hashSession(options.UserSession),
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
		// Without an ID token, nothing binds tokens from the browser to this sign-in.
		if !t.Scope.Has(oauth.ScopeOpenID) {
			return "", nil, fmt.Errorf("client: response type %q requires the scope openid", t.ResponseType)
		}
		// Tokens must not be in a query (OAuth 2.0 Multiple Response Type Encoding Practices,
		// section 3.0).
		if options.ResponseMode == "query" || options.ResponseMode == "query.jwt" && c.config.AuthorizationEncryptionAlg == "" {
			return "", nil, fmt.Errorf("client: response type %q cannot be used with response mode query", t.ResponseType)
		}
	}
	query := url.Values{}
	for name, values := range options.Extra {
		query[name] = slices.Clone(values)
	}
	// The query of the endpoint itself must be kept (RFC 6749, section 3.1).
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
		key, err := c.prover.newKey()
		if err != nil {
			return "", nil, err
		}
		if key != nil { // binds the code, too (RFC 9449, section 10)
			t.DPoPKey = c.prover.stored(key)
			set("dpop_jkt", key.Thumbprint())
		}
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
	set("response_mode", c.jwtResponseMode(options.ResponseMode))
	if options.Claims != nil {
		claims, err := json.Marshal(options.Claims)
		if err != nil {
			return "", nil, fmt.Errorf("client: claims parameter: %w", err)
		}
		set("claims", string(claims))
	}
	details := options.AuthorizationDetails
	if details == nil {
		details = c.config.AuthorizationDetails
	}
	if err := setDetails(query, details); err != nil {
		return "", nil, err
	}
	if len(c.config.Resources) > 0 {
		query["resource"] = c.config.Resources
	}
	if c.config.RequestObjectSigningAlg != "" {
		publish := options.RequestURI
		if c.pushes() {
			publish = nil
		}
		if query, err = c.byRequestObject(query, endpoint.Query(), publish, time.Now()); err != nil {
			return "", nil, err
		}
	}
	if c.pushes() {
		if query, err = c.pushed(ctx, query, endpoint.Query()); err != nil {
			return "", nil, err
		}
	}
	endpoint.RawQuery = query.Encode()
	return endpoint.String(), t, nil
}

package client

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

const (
	// defaultSessionLifetime is a working day: users sign in again every morning.
	defaultSessionLifetime = 12 * time.Hour
	// defaultSessions is the capacity of the default store.
	defaultSessions = 100_000
	// maxSignIns is how many sign-ins one browser can have in progress in its tabs, and
	// maxSignInBytes limits the size of all their cookies: servers and proxies reject requests
	// with large headers, so too many cookies would lock the browser out.
	maxSignIns     = 8
	maxSignInBytes = 3800
	// maxReturnTo limits return_to, which is stored in a cookie.
	maxReturnTo = 1024
	// maxLoginHint limits a login_hint from another site.
	maxLoginHint = 1024
	// maxFormBytes limits forms from browsers and providers.
	maxFormBytes = 64 << 10
)

// RelyingPartyConfig configures a RelyingParty. Only Client is required; the zero values of
// the other fields are good defaults.
type RelyingPartyConfig struct {
	// Client is the OAuth client of the application. Its RedirectURI also determines the
	// other paths, which are in the same directory.
	Client *Client
	// Authorization has options for every sign-in, in addition to the client's Config.
	Authorization AuthorizationOptions
	// SignInOptions can change the options of the sign-in that r starts: login_hint, prompt,
	// acr_values, scopes and others. options is a copy of Authorization. It must check values
	// from r, because any site can send the browser to sign-in. If it returns an error, the
	// sign-in fails.
	SignInOptions func(r *http.Request, options *AuthorizationOptions) error
	// OnSignIn is called before a session starts, after everything is verified. It can add to
	// Data, or reject the user with an error that wraps ErrRefused; other errors are treated
	// as failures of the application. It is called again when a session is renewed with
	// prompt=none.
	OnSignIn func(r *http.Request, s *Session) error
	// UserInfo fetches UserInfo at each sign-in. Otherwise a session has only the claims of
	// the ID token. Without the scope openid, UserInfo is always fetched.
	UserInfo bool
	// Sessions stores the sessions. Nil keeps up to 100,000 in memory: after a restart, users
	// must sign in again, usually without a password because they are still signed in at the
	// provider.
	Sessions SessionStore
	// SessionLifetime is the maximum lifetime of a session; zero means 12 hours.
	SessionLifetime time.Duration
	// CookieKey is a key of 32 bytes that encrypts the cookies of sign-ins in progress. Nil
	// means a random key. If the application runs in several processes, all need the same
	// key.
	CookieKey []byte `json:"-"`
	// CookiePrefix is the prefix of the names of cookies: letters, digits and hyphens. Empty
	// means a prefix derived from the redirect URI, the issuer and the client ID, so that
	// applications on the same host, for example on two ports, do not overwrite each other's
	// cookies.
	CookiePrefix string
	// Home is the path to return to if there is no return_to; empty means "/".
	Home string
	// Error writes the response to a failed request, for the end user: a sign-in that was
	// denied, took too long or was forged. err is for the log; for a sign-in it wraps a
	// *SignInError, which has the path to try again. status is the suggested HTTP status. If
	// Error is nil, err is logged and a short page is written.
	Error func(w http.ResponseWriter, r *http.Request, status int, err error)
	// Logger receives errors; nil means slog.Default().
	Logger *slog.Logger
}

// RelyingParty signs users in to a web application, keeps their sessions, and ends them when
// users sign out in the application or at the provider. It is an http.Handler for these
// paths, in the same directory as the client's RedirectURI:
//
//	sign-in              starts a sign-in; return_to is the path to return to afterwards.
//	                     StepUpPath adds what an API requires of it.
//	                     With prompt=none no page is shown: the session is renewed, or it
//	                     ends if the user is no longer signed in at the provider. It does
//	                     not end if the request came from another site
//	callback             the redirect URI, with any name
//	sign-out             POST: ends the session here and at the provider; return_to as above
//	signed-out           where the provider redirects to after sign-out
//	initiate-login       starts a sign-in for another site, such as the provider
//	backchannel-logout   receives logout tokens of the provider
//	frontchannel-logout  ends the session from a frame on the provider's page
//	check-session        a page for a frame, which sends the message "changed" to the page
//	                     around it when the sign-in at the provider changes
//
// Require and Load add the session to the context of the application's own requests. A
// RelyingParty is safe for concurrent use.
//
// It checks that sign-out forms come from the application's own pages. If it is wrapped in an
// http.CrossOriginProtection, exclude the redirect URI and initiate-login from that, because
// other sites may post to these.
type RelyingParty struct {
	client        *Client
	authorization AuthorizationOptions
	signInOptions func(*http.Request, *AuthorizationOptions) error
	onSignIn      func(*http.Request, *Session) error
	userInfo      bool
	sessions      SessionStore
	lifetime      time.Duration
	home          string
	writeError    func(http.ResponseWriter, *http.Request, int, error)
	logger        *slog.Logger

	seal    seal
	prefix  string   // of cookie names
	origin  *url.URL // of the application: scheme and host
	base    string   // directory of the redirect URI, with a trailing slash
	sources sources
	own     http.CrossOriginProtection

	mu   sync.Mutex
	used map[string]time.Time // expiry of used logout tokens by jti
}

// NewRelyingParty checks the configuration and returns a RelyingParty. It sends no request.
func NewRelyingParty(config RelyingPartyConfig) (*RelyingParty, error) {
	if config.Client == nil {
		return nil, errors.New("client: RelyingPartyConfig requires Client")
	}
	redirect, err := url.Parse(config.Client.config.RedirectURI)
	if err != nil || redirect.Host == "" || !secure(redirect) || path.Clean(redirect.Path) != redirect.Path || redirect.Path == "/" {
		return nil, errors.New("client: the Client of a RelyingParty requires a RedirectURI such as https://app.example.com/auth/callback")
	}
	p := &RelyingParty{
		client: config.Client, authorization: config.Authorization, signInOptions: config.SignInOptions, onSignIn: config.OnSignIn,
		userInfo: config.UserInfo,
		sessions: config.Sessions, lifetime: config.SessionLifetime, home: config.Home, writeError: config.Error, logger: config.Logger,
		origin: &url.URL{Scheme: redirect.Scheme, Host: redirect.Host},
		base:   strings.TrimSuffix(path.Dir(redirect.Path), "/") + "/",
		used:   map[string]time.Time{},
	}
	p.authorization.RedirectURI = config.Client.config.RedirectURI
	if config.Client.config.UserInfoSubject != "" && !p.hasOpenID() {
		p.userInfo = true
	}
	if p.sessions == nil {
		p.sessions = NewMemorySessions(defaultSessions)
	}
	if p.lifetime <= 0 {
		p.lifetime = defaultSessionLifetime
	}
	if p.home == "" {
		p.home = "/"
	}
	if p.home != localPath(p.home, "") {
		return nil, errors.New("client: Home must be a path of the application, such as /start")
	}
	if p.logger == nil {
		p.logger = slog.Default()
	}
	if p.writeError == nil {
		p.writeError = p.writeErrorPage
	}
	key := config.CookieKey
	if key == nil {
		key = make([]byte, 32)
		rand.Read(key)
	}
	if len(key) != 32 {
		return nil, errors.New("client: CookieKey must have 32 bytes")
	}
	if p.seal, err = newSeal(key); err != nil {
		return nil, err
	}
	if strings.Trim(strings.ToLower(config.CookiePrefix), "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return nil, errors.New("client: CookiePrefix must have only letters, digits and hyphens")
	}
	p.prefix = config.CookiePrefix
	if p.prefix == "" {
		// Browsers share cookies between the ports of a host (RFC 6265, section 8.5).
		sum := sha256.Sum256([]byte(p.authorization.RedirectURI + " " + p.client.metadata.Issuer + " " + p.client.config.ClientID))
		p.prefix = hex.EncodeToString(sum[:6]) + "-"
	}
	return p, nil
}

// hasOpenID reports whether sign-ins return an ID token.
func (p *RelyingParty) hasOpenID() bool {
	scopes := p.authorization.Scopes
	if scopes == nil {
		scopes = p.client.config.Scopes
	}
	return slices.Contains(scopes, oauth.ScopeOpenID)
}

// Format keeps keys and tokens out of logs and error messages, for every verb.
func (p *RelyingParty) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, "[relying party of %s at %s]", p.client.metadata.Issuer, p.origin)
}

// Format keeps the key out of logs and error messages, for every verb.
func (c RelyingPartyConfig) Format(s fmt.State, _ rune) { io.WriteString(s, "[relying party config]") }

// LogValue keeps the key out of structured logs.
func (c RelyingPartyConfig) LogValue() slog.Value { return slog.StringValue("[relying party config]") }

// Registration returns the client metadata that the provider needs for all of the paths, with
// the names of OpenID Connect Registration.
func (p *RelyingParty) Registration() oauth.ClientMetadata {
	at := func(name string) string { return p.origin.String() + p.base + name }
	return oauth.ClientMetadata{
		RedirectURIs:                      []string{p.client.config.RedirectURI},
		ResponseTypes:                     []string{p.client.responseType.String()},
		PostLogoutRedirectURIs:            []string{at("signed-out")},
		InitiateLoginURI:                  at("initiate-login"),
		BackchannelLogoutURI:              at("backchannel-logout"),
		FrontchannelLogoutURI:             at("frontchannel-logout"),
		FrontchannelLogoutSessionRequired: true,
	}
}

// refusal is an error with its HTTP status.
type refusal struct {
	status int
	err    error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

func refuse(status int, text string) error { return &refusal{status, errors.New("client: " + text)} }

// ServeHTTP serves the paths of the RelyingParty. Other paths are not found.
func (p *RelyingParty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
	redirect := strings.TrimPrefix(p.client.config.RedirectURI, p.origin.String())
	redirect, _, _ = strings.Cut(redirect, "?")
	var response func(http.ResponseWriter, *http.Request) error
	methods := []string{http.MethodGet, http.MethodPost}
	switch name, ok := strings.CutPrefix(r.URL.Path, p.base); {
	case r.URL.Path == redirect:
		response = p.callback
	case !ok:
	case name == "sign-in":
		response = p.signIn
	case name == "initiate-login":
		response = p.initiateLogin
	case name == "sign-out":
		response, methods = p.signOut, []string{http.MethodPost}
	case name == "signed-out":
		response, methods = p.signedOut, []string{http.MethodGet}
	case name == "backchannel-logout":
		response, methods = p.backChannelLogout, []string{http.MethodPost}
	case name == "check-session":
		response, methods = p.checkSession, []string{http.MethodGet}
	case name == "frontchannel-logout":
		response, methods = p.frontChannelLogout, []string{http.MethodGet}
	}
	if response == nil {
		http.NotFound(w, r)
		return
	}
	if !slices.Contains(methods, r.Method) {
		header.Set("Allow", strings.Join(methods, ", "))
		http.Error(w, "Allowed methods: "+strings.Join(methods, ", ")+".", http.StatusMethodNotAllowed)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
	err := response(w, r)
	if err == nil {
		return
	}
	p.writeError(w, r, statusOf(err), err)
}

// statusOf distinguishes errors of the browser's request from errors of the provider and the
// store.
func statusOf(err error) int {
	if refused, ok := errors.AsType[*refusal](err); ok {
		return refused.status
	}
	if e, ok := errors.AsType[*Error](err); ok && e.Status == 0 { // in an authorization response
		return http.StatusForbidden
	}
	if errors.Is(err, ErrRefused) || errors.Is(err, ErrStepUp) {
		return http.StatusForbidden
	}
	for _, browser := range []error{ErrState, ErrTransaction, ErrMixUp, ErrCallback} {
		if errors.Is(err, browser) {
			return http.StatusBadRequest
		}
	}
	return http.StatusBadGateway
}

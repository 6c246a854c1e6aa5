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
	// defaultSessionLifetime is a working day: who signs in in the morning is asked again
	// the next one.
	defaultSessionLifetime = 12 * time.Hour
	// defaultSessions is how many sessions the store in memory keeps.
	defaultSessions = 100_000
	// maxSignIns is how many sign-ins one browser can have under way, in many tabs, and
	// maxSignInBytes how much all of their cookies may take together: servers and proxies
	// refuse requests whose header is too large, and the browser would be locked out.
	maxSignIns     = 8
	maxSignInBytes = 3800
	// maxReturnTo bounds the path to return to, which travels in a cookie.
	maxReturnTo = 1024
	// maxLoginHint bounds what another site may put into a request to the provider.
	maxLoginHint = 1024
	// maxFormBytes bounds what browsers and providers may post.
	maxFormBytes = 64 << 10
)

// RelyingPartyConfig says how a web application signs its people in. Client is required;
// the zero value of all else is a good choice.
type RelyingPartyConfig struct {
	// Client is the application at its provider. Its RedirectURI is where the provider
	// sends browsers back to, and decides where the other paths are: beside it.
	Client *Client
	// Authorization is what each sign-in asks for beyond the client's Config.
	Authorization AuthorizationOptions
	// SignInOptions changes what the sign-in that r begins asks for: login_hint, prompt,
	// acr_values, scopes and others. options is a copy of Authorization. What comes from r is
	// for it to check: anybody can send the browser to sign-in. An error ends the sign-in.
	SignInOptions func(r *http.Request, options *AuthorizationOptions) error
	// OnSignIn looks at a session before it begins, when all about it has been verified. It can
	// add to Data, or refuse with an error that wraps ErrRefused; any other error is one of the
	// application's. It is called again when a session is renewed with prompt=none.
	OnSignIn func(r *http.Request, s *Session) error
	// UserInfo asks the UserInfo endpoint at each sign-in. Without it a session knows what
	// the ID token says. Without the scope openid it is asked in any case.
	UserInfo bool
	// Sessions keeps the sessions. Nil keeps 100,000 in memory: a restart signs everybody
	// out, though not out of the provider.
	Sessions SessionStore
	// SessionLifetime is how long a session lasts at most; zero means 12 hours.
	SessionLifetime time.Duration
	// CookieKey, of 32 bytes, seals what the browser keeps while a sign-in is under way.
	// Nil means a new random one for each process. Processes that share the work share
	// the key, too.
	CookieKey []byte `json:"-"`
	// CookiePrefix begins the names of cookies, of letters, digits and hyphens. Empty means
	// one that is derived from the redirect URI, the issuer and the client ID, so that
	// applications that share a host, on two ports for instance, do not take each other's
	// cookies.
	CookiePrefix string
	// Home is the path to go to where no other is known; empty means "/".
	Home string
	// Error responds to a request that failed, to the end user: a sign-in that they refused,
	// that took too long or that was forged. err is for a log; for a sign-in it wraps a
	// *SignInError, which says how to try again. status is the status that fits. Nil logs err
	// and writes a short page.
	Error func(w http.ResponseWriter, r *http.Request, status int, err error)
	// Logger hears of what goes wrong; nil means slog.Default.
	Logger *slog.Logger
}

// RelyingParty signs people in to a web application, keeps their sessions, and ends them
// when they sign out here or at the provider. It is an http.Handler for these paths,
// which stand beside that of the client's RedirectURI:
//
//	sign-in              begins a sign-in; the parameter return_to is a path to come back to.
//	                     With prompt=none nobody sees a page: the session is renewed, or
//	                     ends if the end user is no longer signed in at the provider. If
//	                     another site asked, it goes on
//	callback             the redirect URI itself, whatever its name
//	sign-out             POST: ends the session here and at the provider; return_to as above
//	signed-out           where the provider sends the browser afterwards
//	initiate-login       begins a sign-in at somebody else's wish
//	backchannel-logout   the provider says who has signed out
//	frontchannel-logout  the same, through a frame in the browser
//	check-session        a page for a frame, which sends the message "changed" to the page
//	                     around it when the sign-in at the provider changes
//
// Require and Load put the session into the context of the application's own requests.
// A RelyingParty is safe for concurrent use.
//
// It checks that forms which sign out come from the application's own pages. A
// http.CrossOriginProtection around it must let through the redirect URI and
// initiate-login, to which other sites may post.
type RelyingParty struct {
	client        *Client
	authorization AuthorizationOptions
	signInOptions func(*http.Request, *AuthorizationOptions) error
	onSignIn      func(*http.Request, *Session) error
	userInfo      bool
	sessions      SessionStore
	lifetime      time.Duration
	home          string
	answerError   func(http.ResponseWriter, *http.Request, int, error)
	logger        *slog.Logger

	seal    seal
	prefix  string   // of the names of cookies
	origin  *url.URL // of the application: scheme and host
	base    string   // path of the folder that the redirect URI is in, with a slash at the end
	sources sources
	own     http.CrossOriginProtection

	mu   sync.Mutex
	used map[string]time.Time // jti of logout tokens, until they expire
}

// NewRelyingParty checks the configuration. It sends no request.
func NewRelyingParty(config RelyingPartyConfig) (*RelyingParty, error) {
	if config.Client == nil {
		return nil, errors.New("client: a RelyingParty needs a Client")
	}
	redirect, err := url.Parse(config.Client.config.RedirectURI)
	if err != nil || redirect.Host == "" || !secure(redirect) || path.Clean(redirect.Path) != redirect.Path || redirect.Path == "/" {
		return nil, errors.New("client: the Client of a RelyingParty needs a RedirectURI such as https://app.example.com/auth/callback")
	}
	p := &RelyingParty{
		client: config.Client, authorization: config.Authorization, signInOptions: config.SignInOptions, onSignIn: config.OnSignIn,
		userInfo: config.UserInfo,
		sessions: config.Sessions, lifetime: config.SessionLifetime, home: config.Home, answerError: config.Error, logger: config.Logger,
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
		return nil, errors.New("client: Home is a path of the application, such as /start")
	}
	if p.logger == nil {
		p.logger = slog.Default()
	}
	if p.answerError == nil {
		p.answerError = p.writeErrorPage
	}
	key := config.CookieKey
	if key == nil {
		key = make([]byte, 32)
		rand.Read(key)
	}
	if len(key) != 32 {
		return nil, errors.New("client: CookieKey has 32 bytes")
	}
	if p.seal, err = newSeal(key); err != nil {
		return nil, err
	}
	if strings.Trim(strings.ToLower(config.CookiePrefix), "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return nil, errors.New("client: CookiePrefix is of letters, digits and hyphens")
	}
	p.prefix = config.CookiePrefix
	if p.prefix == "" {
		// Browsers keep cookies by host alone, whatever the port (RFC 6265, section 8.5).
		sum := sha256.Sum256([]byte(p.authorization.RedirectURI + " " + p.client.metadata.Issuer + " " + p.client.config.ClientID))
		p.prefix = hex.EncodeToString(sum[:6]) + "-"
	}
	return p, nil
}

// hasOpenID reports whether sign-ins give an ID token.
func (p *RelyingParty) hasOpenID() bool {
	scopes := p.authorization.Scopes
	if scopes == nil {
		scopes = p.client.config.Scopes
	}
	return slices.Contains(scopes, oauth.ScopeOpenID)
}

// Format keeps keys and tokens out of logs and messages, whatever the verb.
func (p *RelyingParty) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, "[relying party of %s at %s]", p.client.metadata.Issuer, p.origin)
}

// Format keeps the key out of logs and messages, whatever the verb.
func (c RelyingPartyConfig) Format(s fmt.State, _ rune) { io.WriteString(s, "[relying party config]") }

// LogValue keeps the key out of structured logs.
func (c RelyingPartyConfig) LogValue() slog.Value { return slog.StringValue("[relying party config]") }

// Registration returns what the provider must know of the application for all of the
// paths to work, under the names of OpenID Connect Registration.
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

// refusal is an error with the status that it is answered by.
type refusal struct {
	status int
	err    error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

func refuse(status int, text string) error { return &refusal{status, errors.New("client: " + text)} }

// ServeHTTP answers the paths of the RelyingParty, and no others.
func (p *RelyingParty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
	redirect := strings.TrimPrefix(p.client.config.RedirectURI, p.origin.String())
	redirect, _, _ = strings.Cut(redirect, "?")
	var answer func(http.ResponseWriter, *http.Request) error
	methods := []string{http.MethodGet, http.MethodPost}
	switch name, ok := strings.CutPrefix(r.URL.Path, p.base); {
	case r.URL.Path == redirect:
		answer = p.callback
	case !ok:
	case name == "sign-in":
		answer = p.signIn
	case name == "initiate-login":
		answer = p.initiateLogin
	case name == "sign-out":
		answer, methods = p.signOut, []string{http.MethodPost}
	case name == "signed-out":
		answer, methods = p.signedOut, []string{http.MethodGet}
	case name == "backchannel-logout":
		answer, methods = p.backChannelLogout, []string{http.MethodPost}
	case name == "check-session":
		answer, methods = p.checkSession, []string{http.MethodGet}
	case name == "frontchannel-logout":
		answer, methods = p.frontChannelLogout, []string{http.MethodGet}
	}
	if answer == nil {
		http.NotFound(w, r)
		return
	}
	if !slices.Contains(methods, r.Method) {
		header.Set("Allow", strings.Join(methods, ", "))
		http.Error(w, "This address answers to "+strings.Join(methods, " and ")+".", http.StatusMethodNotAllowed)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
	err := answer(w, r)
	if err == nil {
		return
	}
	p.answerError(w, r, statusOf(err), err)
}

// statusOf tells what the browser brought from what the provider or the store did.
func statusOf(err error) int {
	if refused, ok := errors.AsType[*refusal](err); ok {
		return refused.status
	}
	if e, ok := errors.AsType[*Error](err); ok && e.Status == 0 { // reported at the redirect URI
		return http.StatusForbidden
	}
	if errors.Is(err, ErrRefused) {
		return http.StatusForbidden
	}
	for _, browser := range []error{ErrState, ErrTransaction, ErrMixUp, ErrCallback} {
		if errors.Is(err, browser) {
			return http.StatusBadRequest
		}
	}
	return http.StatusBadGateway
}

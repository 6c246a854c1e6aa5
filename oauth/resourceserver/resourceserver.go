// Package resourceserver is the API's side of OAuth 2: net/http middleware that lets a
// request through when its access token is valid and allows what the route asks for, and
// answers the right challenge when not.
//
// It validates JWT access tokens by itself (RFC 9068) and asks the authorization server
// about others (RFC 7662). It works with any server that follows these.
package resourceserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

// Config says whose tokens an API takes.
type Config struct {
	// Issuer is the authorization server, exactly as its metadata names it. Its access tokens
	// are those of RFC 9068, or are introspected. It may be empty if there are Issuers.
	Issuer string
	// Issuers are further authorization servers, and those whose tokens differ from RFC 9068:
	// Keycloak, Entra ID, Auth0, Okta, Cognito and others. Their tokens are JWTs; only
	// Config.Issuer is asked about tokens that are none.
	Issuers []Issuer
	// Resource is the API's own identifier, which tokens must have as an audience (RFC 8707,
	// RFC 9068, section 4), compared by oauth.SameResource. It may be empty if all Issuers
	// have Audiences; the API then has no metadata.
	Resource string
	// TrustDomain is the audience of transaction tokens (draft-ietf-oauth-transaction-tokens,
	// experimental); "" takes none.
	TrustDomain string

	// ClientID and ClientSecret authenticate the API at the introspection endpoint, by
	// client_secret_basic. Without them tokens that are no JWT are refused.
	ClientID     string
	ClientSecret string `json:"-"`
	// IntrospectAll asks about JWTs too: a revoked one is then refused at once instead of
	// at its expiry.
	IntrospectAll bool
	// IntrospectionCache is how long an answer "active" is believed; zero means 10
	// seconds, negative not at all. It never outlives the token.
	IntrospectionCache time.Duration

	// CheckStatus looks up whether a JWT was revoked, in the list that the token names
	// (draft-ietf-oauth-status-list, experimental): the server's resource must ask for that,
	// and a token without a status is refused. A revocation is seen within a minute or so,
	// and costs no request for each token. It is not needed with IntrospectAll.
	CheckStatus bool

	// ClockSkew is how far the clocks of server and API may be apart; zero means 10
	// seconds, negative not at all.
	ClockSkew time.Duration

	// Algorithms are those that may have signed a token; nil means every
	// asymmetric one of package jose.
	Algorithms []jose.Algorithm
	// ScopesSupported, Name and Documentation go into the API's metadata (RFC 9728).
	ScopesSupported []string
	Name            string
	Documentation   string

	// HTTPClient fetches metadata and keys and introspects; nil means the default
	// transport. A copy is used that follows no redirects, keeps no cookies and gives up
	// after 5 seconds.
	HTTPClient *http.Client
	// Logger receives why the authorization server could not be reached; nil means
	// slog.Default().
	Logger *slog.Logger
}

// ResourceServer guards the routes of one API. It is safe for concurrent use.
type ResourceServer struct {
	config      Config
	metadataURL string
	log         *slog.Logger
	main        *trusted            // of config.Issuer; nil if there is none
	issuers     map[string]*trusted // by name, with main
	answers     answerCache
	asking      singleflight.Group
	statuses    statusLists
}

// New returns a guard. It connects to nobody yet: an API can start before its
// authorization server.
func New(config Config) (*ResourceServer, error) {
	resource, err := url.Parse(config.Resource)
	switch {
	case config.Issuer == "" && len(config.Issuers) == 0:
		return nil, errors.New("resourceserver: say by Issuer whose tokens the API accepts")
	case config.Issuer == "" && (config.ClientID != "" || config.IntrospectAll || config.TrustDomain != ""):
		return nil, errors.New("resourceserver: introspection and transaction tokens need an Issuer")
	case config.Resource == "" && config.Issuer == "":
	case err != nil || !resource.IsAbs() || strings.Contains(config.Resource, "#"):
		return nil, errors.New("resourceserver: Resource is the API's identifier, an absolute URI without a fragment")
	}
	if config.Algorithms == nil {
		config.Algorithms = jose.SigningAlgorithms()
	}
	if config.ClockSkew == 0 {
		config.ClockSkew = 10 * time.Second
	}
	config.ClockSkew = max(config.ClockSkew, 0)
	if config.IntrospectionCache == 0 {
		config.IntrospectionCache = 10 * time.Second
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	s := &ResourceServer{config: config, log: config.Logger, issuers: map[string]*trusted{}}
	if resource.Host != "" {
		if s.metadataURL, err = oauth.WellKnownURL(config.Resource, oauth.WellKnownProtectedResource); err != nil {
			return nil, fmt.Errorf("resourceserver: metadata URL: %w", err)
		}
	}
	trustedIssuers := config.Issuers
	if config.Issuer != "" {
		trustedIssuers = append([]Issuer{{Issuer: config.Issuer, CheckStatus: config.CheckStatus}}, trustedIssuers...)
	}
	for _, i := range trustedIssuers {
		if s.issuers[i.Issuer] != nil {
			return nil, fmt.Errorf("resourceserver: issuer %s is there twice", i.Issuer)
		}
		if s.issuers[i.Issuer], err = trust(config, i); err != nil {
			return nil, err
		}
	}
	s.main = s.issuers[config.Issuer]
	return s, nil
}

// Format keeps the secret out of logs and messages, whatever the verb.
func (c Config) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, "[resource server %q of %q]", c.Resource, c.Issuer)
}

// LogValue keeps the secret out of structured logs.
func (c Config) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

// Format keeps the secret out of logs and messages, whatever the verb.
func (s *ResourceServer) Format(state fmt.State, verb rune) { s.config.Format(state, verb) }

// Requirement is what a route asks of a token.
type Requirement struct {
	// Scopes must all be in the token.
	Scopes []string
	// ACRValues are the authentication contexts of which the token must name one, and
	// MaxAge how long ago the person may have signed in (RFC 9470); zero asks nothing.
	ACRValues []string
	MaxAge    time.Duration
}

// Require returns middleware for routes that need all of these scopes.
func (s *ResourceServer) Require(scopes ...string) func(http.Handler) http.Handler {
	return s.RequireToken(Requirement{Scopes: scopes})
}

// RequireToken returns middleware for routes with further requirements.
func (s *ResourceServer) RequireToken(need Requirement) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if isPreflight(r) {
				writePreflight(w, r)
				return
			}
			token, err := s.authorize(r, need)
			if err != nil {
				s.challenge(w, r, need, err)
				return
			}
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), tokenKey{}, token)))
		})
	}
}

// errNoToken says that the request carries no token at all, which is no error yet: the
// challenge tells the client how to get one (RFC 6750, section 3.1).
var errNoToken = errors.New("no access token")

func (s *ResourceServer) authorize(r *http.Request, need Requirement) (*Token, error) {
	raw, err := bearerToken(r)
	if err != nil {
		return nil, err
	}
	token, err := s.Validate(r.Context(), raw)
	if err != nil {
		return nil, err
	}
	for _, scope := range need.Scopes {
		if !token.Scope.Has(scope) {
			return nil, oauth.NewError(oauth.InsufficientScope, "the access token lacks a scope that is needed here")
		}
	}
	if len(need.ACRValues) > 0 && !slices.Contains(need.ACRValues, token.ACR) {
		return nil, oauth.NewError(oauth.InsufficientUserAuthentication, "a different authentication is needed here")
	}
	if need.MaxAge > 0 && time.Since(token.AuthTime) > need.MaxAge {
		return nil, oauth.NewError(oauth.InsufficientUserAuthentication, "a more recent authentication is needed here")
	}
	return token, nil
}

// bearerToken reads the Authorization header, the only place in which a token is looked
// for (RFC 6750, section 2.1; OAuth 2.1). Another scheme than Bearer is no token.
func bearerToken(r *http.Request) (string, error) {
	headers := r.Header["Authorization"]
	if len(headers) == 0 {
		return "", errNoToken
	}
	if len(headers) > 1 {
		return "", oauth.NewError(oauth.InvalidRequest, "send one Authorization header only")
	}
	scheme, rest, _ := strings.Cut(headers[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", errNoToken
	}
	token := strings.TrimLeft(rest, " ")
	if !isBearerToken(token) {
		return "", oauth.NewError(oauth.InvalidRequest, "send the access token as Authorization: Bearer and the token (RFC 6750, section 2.1)")
	}
	if r.URL.Query().Has("access_token") {
		return "", oauth.NewError(oauth.InvalidRequest, "send the access token once, in the Authorization header (RFC 6750, section 2)")
	}
	return token, nil
}

// isBearerToken holds b64token of RFC 6750, section 2.1.
func isBearerToken(s string) bool {
	bare := strings.TrimRight(s, "=")
	return bare != "" && strings.IndexFunc(bare, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-._~+/", c)
	}) < 0
}

// Validate checks an access token from elsewhere than an HTTP request. The error is an
// *oauth.Error with the code invalid_token if the token is at fault, and something else
// if the authorization server could not be asked.
func (s *ResourceServer) Validate(ctx context.Context, token string) (*Token, error) {
	if _, err := jose.ParseHeader(token); err != nil {
		return s.introspect(ctx, token)
	}
	if s.config.IntrospectAll {
		// Not those of other issuers, which are nobody else's to see.
		if from, err := s.issuerOf(token); err != nil || from == s.main {
			return s.introspect(ctx, token)
		}
	}
	return s.validateJWT(ctx, token)
}

func invalid(why string) error {
	return oauth.NewError(oauth.InvalidToken, "the access token "+why)
}

// challenge answers a request that is not let through.
func (s *ResourceServer) challenge(w http.ResponseWriter, r *http.Request, need Requirement, err error) {
	exposeChallenge(w.Header())
	pairs := []string{"resource_metadata", s.metadataURL}
	status := http.StatusUnauthorized
	e := oauth.AsError(err)
	switch {
	case errors.Is(err, errNoToken):
		if len(need.Scopes) > 0 {
			pairs = append(pairs, "scope", strings.Join(need.Scopes, " "))
		}
	case e != nil:
		status = e.HTTPStatus()
		pairs = append(pairs, "error", string(e.Code), "error_description", e.Description)
		switch e.Code {
		case oauth.InsufficientScope:
			pairs = append(pairs, "scope", strings.Join(need.Scopes, " "))
		case oauth.InsufficientUserAuthentication:
			pairs = append(pairs, "acr_values", strings.Join(need.ACRValues, " "))
			if need.MaxAge > 0 {
				pairs = append(pairs, "max_age", fmt.Sprint(int(need.MaxAge/time.Second)))
			}
		}
	default:
		// The token may be good: the client shall try again, not sign in again.
		s.log.ErrorContext(r.Context(), "access token could not be checked", "issuer", s.config.Issuer, "error", err)
		w.Header().Set("Retry-After", "5")
		http.Error(w, "The access token cannot be checked at the moment. Try again.", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("WWW-Authenticate", oauth.NewChallenge("Bearer", pairs...).String())
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, http.StatusText(status), status)
}

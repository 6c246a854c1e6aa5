// Package resourceserver protects an API with OAuth 2.0 access tokens. Its net/http
// middleware validates the token of each request, checks the scopes that the route requires,
// and sends the proper error and WWW-Authenticate challenge otherwise.
//
// It validates JWT access tokens locally (RFC 9068), with the keys that the authorization
// server publishes, and other tokens at the introspection endpoint (RFC 7662). It works with
// any authorization server that implements these, and with others through Issuer.
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
	"github.com/valetkey/valetkey/oauth/clientcertificate"
	"github.com/valetkey/valetkey/oauth/jose"
)

// Config configures a ResourceServer: which tokens the API accepts.
type Config struct {
	// Issuer is the issuer identifier of the authorization server, exactly as in its
	// metadata. Its access tokens follow RFC 9068 or are introspected. It may be empty if
	// there are Issuers.
	Issuer string
	// Issuers are further authorization servers, and servers whose tokens differ from
	// RFC 9068: Keycloak, Entra ID, Auth0, Okta, Cognito and others. Their tokens must be
	// JWTs; tokens that are not JWTs are introspected at Config.Issuer only.
	Issuers []Issuer
	// Resource is the API's own identifier, which the aud of a token must contain (RFC 8707;
	// RFC 9068, section 4), compared by oauth.SameResource. It may be empty if all Issuers
	// have Audiences; then the API has no metadata.
	Resource string
	// TrustDomain is the audience of transaction tokens (draft-ietf-oauth-transaction-tokens,
	// experimental). If it is empty, none are accepted.
	TrustDomain string

	// ClientID and ClientSecret authenticate the API at the introspection endpoint, with
	// client_secret_basic. Without them, only JWTs are accepted.
	ClientID     string
	ClientSecret string `json:"-"`
	// IntrospectAll introspects JWTs too, so that a revoked token is rejected immediately
	// instead of at its expiry.
	IntrospectAll bool
	// IntrospectionCache is how long a response with "active": true is cached; zero means 10
	// seconds, negative disables the cache. It is never used after the token's expiry.
	IntrospectionCache time.Duration
	// RequireSignedIntrospection requests introspection responses as JWTs that the authorization
	// server signs (RFC 9701), and accepts no others. A proxy that terminates TLS between the two
	// can then forge none. The responses are signed with one of Algorithms, for ClientID or Resource.
	RequireSignedIntrospection bool
	// IntrospectionDecryptionKeys are the API's keys for responses that are encrypted as well, with an
	// algorithm of jose.PublicKeyEncryptionAlgorithms; if there are any, no others are accepted.
	// They need RequireSignedIntrospection.
	IntrospectionDecryptionKeys []*jose.Decrypter `json:"-"`

	// CheckStatus checks whether a JWT was revoked, with the status list that the token
	// refers to (draft-ietf-oauth-status-list, experimental). Tokens without a status are
	// rejected, so enable status lists for this resource at the server first. Revocations
	// take effect within about a minute, without a request per token. It is not needed with
	// IntrospectAll.
	CheckStatus bool

	// ClientCertificates says where client certificates come from, for tokens that are bound to
	// one (RFC 8705, section 3); nil means the TLS connection. Its server must request
	// certificates: ClientAuth of its tls.Config is RequestClientCert. Behind a proxy that
	// terminates TLS, use clientcertificate.Behind.
	ClientCertificates *clientcertificate.Source
	// RequireCertificateBoundTokens rejects tokens that are not bound to a client certificate.
	RequireCertificateBoundTokens bool

	// DPoP configures how tokens that are bound to the key of DPoP proofs are accepted
	// (RFC 9449); nil means the defaults.
	DPoP *DPoP

	// ClockSkew is the tolerated difference between the clocks of server and API; zero means
	// 10 seconds, negative none.
	ClockSkew time.Duration

	// Algorithms are the accepted signature algorithms; nil means all asymmetric ones of
	// package jose.
	Algorithms []jose.Algorithm
	// ScopesSupported, Name and Documentation are published in the API's metadata (RFC 9728).
	ScopesSupported []string
	Name            string
	Documentation   string

	// HTTPClient is used to fetch metadata and keys and for introspection; nil means the
	// default transport. A copy of it is used that follows no redirects, keeps no cookies and
	// has a timeout of 5 seconds.
	HTTPClient *http.Client
	// Logger receives the errors of requests to the authorization server; nil means
	// slog.Default().
	Logger *slog.Logger
}

// ResourceServer protects the routes of one API. It is safe for concurrent use.
type ResourceServer struct {
	config      Config
	metadataURL string
	log         *slog.Logger
	main        *trusted            // for Config.Issuer; nil if that is empty
	issuers     map[string]*trusted // by issuer, main included
	responses   responseCache
	asking      singleflight.Group
	statuses    statusLists
	proofs      *proofs // nil if no DPoP proof can be verified
}

// New returns a ResourceServer. It sends no request, so an API can start before its
// authorization server.
func New(config Config) (*ResourceServer, error) {
	resource, err := url.Parse(config.Resource)
	switch {
	case config.Issuer == "" && len(config.Issuers) == 0:
		return nil, errors.New("resourceserver: set Issuer or Issuers: the authorization servers whose tokens the API accepts")
	case config.Issuer == "" && (config.ClientID != "" || config.IntrospectAll || config.TrustDomain != ""):
		return nil, errors.New("resourceserver: introspection and transaction tokens require Issuer")
	case config.RequireSignedIntrospection && config.ClientID == "":
		return nil, errors.New("resourceserver: RequireSignedIntrospection needs a ClientID: the API must authenticate at the introspection endpoint")
	case len(config.IntrospectionDecryptionKeys) > 0 && !config.RequireSignedIntrospection:
		return nil, errors.New("resourceserver: IntrospectionDecryptionKeys need RequireSignedIntrospection: only a signed response can be encrypted")
	case config.Resource == "" && config.Issuer == "":
	case err != nil || !resource.IsAbs() || strings.Contains(config.Resource, "#"):
		return nil, errors.New("resourceserver: Resource must be an absolute URI without a fragment: the identifier of the API")
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
	if s.proofs, err = newProofs(config.DPoP, resource); err != nil {
		return nil, err
	}
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
			return nil, fmt.Errorf("resourceserver: duplicate issuer %s", i.Issuer)
		}
		if s.issuers[i.Issuer], err = trust(config, i); err != nil {
			return nil, err
		}
	}
	s.main = s.issuers[config.Issuer]
	return s, nil
}

// Format keeps the secret out of logs and error messages, for every verb.
func (c Config) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, "[resource server %q of %q]", c.Resource, c.Issuer)
}

// LogValue keeps the secret out of structured logs.
func (c Config) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

// Format keeps the secret out of logs and error messages, for every verb.
func (s *ResourceServer) Format(state fmt.State, verb rune) { s.config.Format(state, verb) }

// Requirement is what a route requires of a token.
type Requirement struct {
	// Scopes are the scopes that the token must have.
	Scopes []string
	// ACRValues are the accepted values of acr, and MaxAge how long ago the user may have
	// signed in (RFC 9470). They are optional.
	ACRValues []string
	MaxAge    time.Duration
}

// Require returns middleware for routes that require all of the given scopes.
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
			s.proofs.setNonce(w, r)
			token, err := s.authorize(r, need)
			if err != nil {
				s.challenge(w, r, need, err)
				return
			}
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), tokenKey{}, token)))
		})
	}
}

// errNoToken is the error for a request without a token. Its challenge has no error code and
// says how to get a token (RFC 6750, section 3.1).
var errNoToken = errors.New("no access token")

func (s *ResourceServer) authorize(r *http.Request, need Requirement) (*Token, error) {
	raw, scheme, err := accessToken(r)
	if err != nil {
		return nil, err
	}
	token, err := s.validate(r.Context(), raw)
	if err != nil {
		return nil, err
	}
	if err := s.checkPossession(r, token, raw, scheme); err != nil {
		return nil, err
	}
	for _, scope := range need.Scopes {
		if !token.Scope.Has(scope) {
			return nil, oauth.NewError(oauth.InsufficientScope, "the access token lacks a required scope")
		}
	}
	if len(need.ACRValues) > 0 && !slices.Contains(need.ACRValues, token.ACR) {
		return nil, oauth.NewError(oauth.InsufficientUserAuthentication, "the user must authenticate with a different method")
	}
	if need.MaxAge > 0 && time.Since(token.AuthTime) > need.MaxAge {
		return nil, oauth.NewError(oauth.InsufficientUserAuthentication, "the user must authenticate again")
	}
	return token, nil
}

// accessToken returns the token of the Authorization header and its scheme: Bearer (RFC 6750,
// section 2.1) or DPoP (RFC 9449, section 7.1). Tokens are not accepted anywhere else (OAuth 2.1).
// Other schemes are ignored.
func accessToken(r *http.Request) (token, scheme string, err error) {
	headers := r.Header["Authorization"]
	if len(headers) == 0 {
		return "", "", errNoToken
	}
	if len(headers) > 1 {
		return "", "", oauth.NewError(oauth.InvalidRequest, "send exactly one Authorization header")
	}
	name, rest, _ := strings.Cut(headers[0], " ")
	switch {
	case strings.EqualFold(name, oauth.TokenTypeBearer):
		scheme = oauth.TokenTypeBearer
	case strings.EqualFold(name, oauth.TokenTypeDPoP):
		scheme = oauth.TokenTypeDPoP
	default:
		return "", "", errNoToken
	}
	token = strings.TrimLeft(rest, " ")
	if !isBearerToken(token) {
		return "", scheme, oauth.NewError(oauth.InvalidRequest, "send the header Authorization: Bearer, followed by the access token (RFC 6750, section 2.1)")
	}
	if r.URL.Query().Has("access_token") {
		return "", scheme, oauth.NewError(oauth.InvalidRequest, "send the access token in the Authorization header only (RFC 6750, section 2)")
	}
	return token, scheme, nil
}

// isBearerToken implements b64token of RFC 6750, section 2.1.
func isBearerToken(s string) bool {
	bare := strings.TrimRight(s, "=")
	return bare != "" && strings.IndexFunc(bare, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-._~+/", c)
	}) < 0
}

// Validate validates an access token that does not come from an HTTP request. The error is an
// *oauth.Error with the code invalid_token if the token is not valid, and another error if
// the authorization server could not be reached. A token that is bound to a key is not valid,
// because there is no request that proves possession of the key.
func (s *ResourceServer) Validate(ctx context.Context, token string) (*Token, error) {
	t, err := s.validate(ctx, token)
	if err != nil {
		return nil, err
	}
	if t.Confirmation != nil || s.config.RequireCertificateBoundTokens {
		return nil, invalid("must be sent in a request that proves possession of a key")
	}
	return t, nil
}

// validate validates an access token without checking that its sender may use it.
func (s *ResourceServer) validate(ctx context.Context, token string) (*Token, error) {
	if _, err := jose.ParseHeader(token); err != nil {
		return s.introspect(ctx, token)
	}
	if s.config.IntrospectAll {
		// Never send tokens of other issuers to this one.
		if from, err := s.issuerOf(token); err != nil || from == s.main {
			return s.introspect(ctx, token)
		}
	}
	return s.validateJWT(ctx, token)
}

func invalid(why string) error {
	return oauth.NewError(oauth.InvalidToken, "the access token "+why)
}

// challenge writes the response to a request that is rejected.
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
		// The token may be valid: the client should try again, not request a new token.
		s.log.ErrorContext(r.Context(), "access token could not be validated", "issuer", s.config.Issuer, "error", err)
		w.Header().Set("Retry-After", "5")
		http.Error(w, "The access token cannot be validated at the moment. Try again later.", http.StatusServiceUnavailable)
		return
	}
	_, scheme, _ := accessToken(r)
	for _, challenge := range s.challenges(scheme, pairs) {
		w.Header().Add("WWW-Authenticate", challenge.String())
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, http.StatusText(status), status)
}

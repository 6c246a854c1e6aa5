package authserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/dpop"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// OwnAPI is an API of the server itself, such as the one that manages it. It is a protected resource
// that needs no declaration, and no declaration can replace it or its scopes. A client may request
// tokens for it only if its Resources name the API, and never if it registered itself.
type OwnAPI struct {
	// Resource has the identifier, which begins with the issuer, and the names of all Scopes.
	Resource record.Resource
	Scopes   []record.Scope
	// Alias is a further identifier of the API, of a server that passes access tokens on to it; "" for
	// none.
	Alias string
	// Client is a client that the server itself defines, such as the command line; nil for none. No
	// stored client can replace it.
	Client *record.Client
	// Allowed returns which of these scopes an access token may have: the token of a user, by the ID
	// in Users, or a client's own token if subject is "". It is called for each token.
	Allowed func(ctx context.Context, subject, clientID string) (oauth.Scope, error)
}

var (
	ruleOwnAPIToken = rule{
		must:    "the access token is active and meant for this API alone",
		section: "RFC 9068, section 4", code: oauth.InvalidToken,
		says: "the access token is invalid, expired, revoked, or not meant for this API alone",
		fix:  "request a token with the identifier of the API as the only resource",
	}
	ruleOwnAPIClient = rule{
		must:    "the client may use this API",
		section: "Valetkey", code: oauth.InvalidToken,
		says: "the client may not use this API",
		fix:  "add the identifier of the API to the client's resources",
	}
)

// isOwnAPI reports whether a resource indicator means OwnAPI.
func (s *Server) isOwnAPI(resource string) bool {
	own := s.config.OwnAPI
	return own != nil && own.is(resource)
}

// is reports whether a resource indicator means the API.
func (own *OwnAPI) is(resource string) bool {
	return oauth.SameResource(own.Resource.Identifier, resource) || own.Alias != "" && oauth.SameResource(own.Alias, resource)
}

// storedClient returns a client as it is stored, or as the server itself defines it.
func (s *Server) storedClient(ctx context.Context, id string) (*record.Client, error) {
	if own := s.config.OwnAPI; own != nil && own.Client != nil && own.Client.ID == id {
		defined := *own.Client
		return &defined, nil
	}
	return s.config.Store.Client(ctx, id)
}

// addOwnAPI adds OwnAPI to the catalogue, instead of what is stored under the same names.
func (c *catalogue) addOwnAPI(own *OwnAPI) {
	if own == nil {
		return
	}
	c.resources = slices.DeleteFunc(c.resources, func(r record.Resource) bool {
		return own.is(r.Identifier)
	})
	c.resources = append(c.resources, own.Resource)
	if own.Alias != "" {
		alias := own.Resource
		alias.Identifier = own.Alias
		c.resources = append(c.resources, alias)
	}
	for _, scope := range own.Scopes {
		if _, ok := c.scopes[scope.Name]; !ok {
			c.scopeNames = append(c.scopeNames, scope.Name)
		}
		c.scopes[scope.Name] = scope
	}
}

// allowedScope returns a scope without the scopes of OwnAPI that the user or client may not have.
func (c *call) allowedScope(ctx context.Context, subject string, scope oauth.Scope) (oauth.Scope, error) {
	own := c.s.config.OwnAPI
	if own == nil || !slices.ContainsFunc(own.Resource.Scopes, scope.Has) {
		return scope, nil
	}
	clientID := ""
	if c.client != nil {
		clientID = c.client.ID
	}
	allowed, err := own.Allowed(ctx, subject, clientID)
	if err != nil {
		return nil, fmt.Errorf("find the scopes that a token may have: %w", err)
	}
	return slices.DeleteFunc(slices.Clone(scope), func(name string) bool {
		return slices.Contains(own.Resource.Scopes, name) && !allowed.Has(name)
	}), nil
}

// Access is an access token for OwnAPI that is valid now.
type Access struct {
	// Subject is the user's ID in Users; "" for a client's own token.
	Subject  string
	ClientID string
	Scope    oauth.Scope
}

type apiHostKey struct{}

// WithAPIHost returns a context for requests to OwnAPI that have arrived where only OwnAPI is served,
// under the host of the request. A DPoP proof may be for that URL (RFC 9449, section 4.3).
func WithAPIHost(ctx context.Context, host string) context.Context {
	return context.WithValue(ctx, apiHostKey{}, host)
}

// apiURIs returns the normal forms of the URLs that a DPoP proof for a request to OwnAPI may have.
func (s *Server) apiURIs(r *http.Request) (uris []string, err error) {
	origins := []string{s.origin}
	if host, ok := r.Context().Value(apiHostKey{}).(string); ok {
		origins = append(origins, "https://"+host, "http://"+host) // a proxy may provide TLS
	}
	path := (&url.URL{Path: r.URL.Path, RawPath: r.URL.RawPath}).EscapedPath()
	for _, origin := range origins {
		uri, err := dpop.NormalizeURI(origin + path)
		if err != nil {
			return nil, oauth.NewError(oauth.InvalidRequest, "the URL is not valid")
		}
		uris = append(uris, uri)
	}
	return uris, nil
}

// VerifyAccess verifies the access token of a request to OwnAPI (RFC 6750, RFC 9449), and that the
// sender may use it. The token was not revoked, and its user and client are active; what the user
// or client may do is for the caller to decide. If the token is refused, the error is an
// *oauth.Error, and the headers of the response have the challenges.
func (s *Server) VerifyAccess(w http.ResponseWriter, r *http.Request) (*Access, error) {
	uris, err := s.apiURIs(r)
	if err != nil {
		return nil, err
	}
	c := &call{s: s, w: w, r: r, now: time.Now(), endpoint: &endpoint{path: r.URL.Path, uris: uris}}
	access, err := c.verifyAccess()
	if s.config.OnTrace != nil {
		defer func() {
			t := c.trace(err)
			t.Ref = c.ref
			s.config.OnTrace(&t)
		}()
	}
	if err != nil {
		return nil, c.refuseAccess(err)
	}
	return access, nil
}

// refuseAccess sets the challenges of a refused request, and returns the error for the client.
func (c *call) refuseAccess(err error) error {
	e := c.s.protocolError(err)
	metadata := "" // RFC 9728, section 5.1
	if own := c.s.config.OwnAPI; own != nil {
		metadata, _ = oauth.WellKnownURL(own.Resource.Identifier, oauth.WellKnownProtectedResource) // the issuer was checked
	}
	if e.Code == "" { // no token was sent (RFC 6750, section 3.1)
		c.setChallenges(oauth.NewChallenge("Bearer", "realm", c.s.config.Issuer, "resource_metadata", metadata), dpopChallenge("resource_metadata", metadata))
		return &oauth.Error{Code: oauth.InvalidToken, Description: "the request has no access token", Status: http.StatusUnauthorized}
	}
	if e.Code != oauth.UseDPoPNonce {
		e = c.referenced(e, err)
	}
	if status := e.HTTPStatus(); status >= http.StatusInternalServerError || status == http.StatusTooManyRequests {
		return e
	}
	pairs := []string{"realm", c.s.config.Issuer, "error", string(e.Code), "error_description", e.Description, "resource_metadata", metadata}
	if c.schemeDPoP {
		c.setChallenges(dpopChallenge(pairs...))
	} else {
		c.setChallenges(oauth.NewChallenge("Bearer", pairs...), dpopChallenge())
	}
	named := *e
	named.Status = http.StatusUnauthorized
	return &named
}

func (c *call) verifyAccess() (*Access, error) {
	if c.s.config.OwnAPI == nil {
		return nil, errors.New("authserver: Config.OwnAPI is missing")
	}
	headers := c.r.Header["Authorization"]
	if len(headers) == 0 {
		return nil, c.refuse(&ruleBearerSent, "")
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	c.schemeDPoP = strings.EqualFold(scheme, oauth.TokenTypeDPoP)
	switch {
	case !c.schemeDPoP && !strings.EqualFold(scheme, oauth.TokenTypeBearer):
		return nil, c.refuse(&ruleBearerSent, "another authentication scheme")
	case len(headers) > 1 || token == "" || strings.ContainsAny(token, " ,"):
		return nil, c.refuse(&ruleBearerSyntax, "")
	}
	t, err := c.verifyAccessToken(token)
	if errors.Is(err, errInactive) {
		return nil, c.refuse(&ruleOwnAPIToken, err.Error())
	}
	if err != nil {
		return nil, err
	}
	// Another API in the audience could send the token here.
	foreign := slices.ContainsFunc(t.claims.Audience, func(audience string) bool {
		return !c.s.isOwnAPI(audience) && audience != c.s.config.Issuer
	})
	if foreign || !slices.ContainsFunc(t.claims.Audience, c.s.isOwnAPI) {
		return nil, c.refuse(&ruleOwnAPIToken, fmt.Sprintf("aud is %q", t.claims.Audience))
	}
	if err := c.checkSender(t, token); err != nil {
		return nil, err
	}
	cl, err := c.clientByID(t.claims.ClientID)
	if errors.Is(err, errUnknownClient) {
		return nil, c.refuse(&ruleOwnAPIToken, "the client is deleted or disabled")
	}
	if err != nil {
		return nil, err
	}
	c.client = cl
	if err := c.must(cl.mayUse(c.s.config.OwnAPI.Resource.Identifier), &ruleOwnAPIClient); err != nil {
		return nil, err
	}
	if err := c.checkProof(cl); err != nil {
		return nil, err
	}
	if err := c.spendProof(); err != nil {
		return nil, err
	}
	if err := c.stillStored(t); err != nil {
		return nil, err
	}
	scope, err := oauth.ParseScope(t.claims.Scope)
	if err != nil {
		return nil, fmt.Errorf("read scope of an access token: %w", err)
	}
	return &Access{Subject: t.user, ClientID: t.claims.ClientID, Scope: scope}, nil
}

// stillStored checks in the store that the client of a token is active and may use OwnAPI. Clients
// in memory can be up to a second old.
func (c *call) stillStored(t *verifiedToken) error {
	stored, err := c.s.storedClient(c.r.Context(), t.claims.ClientID)
	if errors.Is(err, storage.ErrNotFound) {
		return c.refuse(&ruleOwnAPIToken, "the client is deleted")
	}
	if err != nil {
		return fmt.Errorf("read client: %w", err)
	}
	if !active(stored, c.now) {
		return c.refuse(&ruleOwnAPIToken, "the client is disabled")
	}
	return c.must(c.s.newClient(stored).mayUse(c.s.config.OwnAPI.Resource.Identifier), &ruleOwnAPIClient)
}

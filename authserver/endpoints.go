package authserver

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/dpop"
	"github.com/valetkey/valetkey/storage/record"
)

// endpoint is a row of the route table.
type endpoint struct {
	path string // below the issuer
	// uris are the normal forms of the URL and of its mtls_endpoint_aliases, for DPoP proofs.
	uris []string
	// wellKnown puts the path between the issuer's host and path (RFC 8414, section 3.1).
	wellKnown     bool
	methods       []string
	specification string
	cors          corsPolicy
	page          bool // users see it, so errors are pages
	serve         func(*call) error
	sample        *sample // of accepted requests; nil if none are kept
	// metadata sets the endpoint's member of the server metadata; nil if there is none.
	metadata func(*oauth.ServerMetadata, string)
}

var (
	get          = []string{http.MethodGet, http.MethodHead}
	post         = []string{http.MethodPost}
	getPost      = []string{http.MethodGet, http.MethodPost}
	continuePath = "/authorize/continue"
)

const registrationPath = "/register"

// endpoints is the route table of this server.
func (s *Server) endpoints() []endpoint {
	table := endpoints()
	if s.registrationPolicy.on() {
		table = append(table, endpoint{
			path: registrationPath, methods: []string{http.MethodPost, http.MethodGet, http.MethodPut, http.MethodDelete},
			specification: "RFC 7591; RFC 7592; OpenID Connect Registration", cors: corsAny, serve: (*call).serveRegistration,
			metadata: func(m *oauth.ServerMetadata, url string) { m.RegistrationEndpoint = url },
		})
	}
	if s.config.FirstPartyApplications {
		table = append(table, endpoint{
			path: "/authorize-challenge", methods: post,
			specification: "draft-ietf-oauth-first-party-apps, section 4.1", serve: (*call).authorizationChallenge,
			metadata: func(m *oauth.ServerMetadata, url string) { m.AuthorizationChallengeEndpoint = url },
		})
	}
	return table
}

// endpoints returns the endpoints that every server has.
func endpoints() []endpoint {
	return []endpoint{
		{path: "/authorize", methods: getPost, specification: "RFC 6749, section 3.1; OpenID Connect Core, section 3.1.2", page: true, serve: (*call).authorize,
			metadata: func(m *oauth.ServerMetadata, url string) { m.AuthorizationEndpoint = url }},
		{path: continuePath, methods: []string{http.MethodGet}, specification: "Valetkey", page: true, serve: (*call).continueInteraction},
		{path: "/token", methods: post, specification: "RFC 6749, section 3.2", cors: corsClient, serve: (*call).token,
			metadata: func(m *oauth.ServerMetadata, url string) { m.TokenEndpoint = url }},
		{path: parPath, methods: post, specification: "RFC 9126, section 2", cors: corsClient, serve: (*call).pushedAuthorizationRequest,
			metadata: func(m *oauth.ServerMetadata, url string) { m.PushedAuthorizationRequestEndpoint = url }},
		{path: "/device_authorization", methods: post, specification: "RFC 8628, section 3.1", cors: corsClient, serve: (*call).deviceAuthorization,
			metadata: func(m *oauth.ServerMetadata, url string) { m.DeviceAuthorizationEndpoint = url }},
		{path: "/backchannel_authentication", methods: post, specification: "OpenID Connect CIBA Core, section 7", serve: (*call).backchannelAuthentication,
			metadata: func(m *oauth.ServerMetadata, url string) { m.BackchannelAuthenticationEndpoint = url }},
		{path: "/introspect", methods: post, specification: "RFC 7662", serve: (*call).introspect,
			metadata: func(m *oauth.ServerMetadata, url string) { m.IntrospectionEndpoint = url }},
		{path: "/revoke", methods: post, specification: "RFC 7009", cors: corsClient, serve: (*call).revoke,
			metadata: func(m *oauth.ServerMetadata, url string) { m.RevocationEndpoint = url }},
		{path: "/global-token-revocation", methods: post, specification: "draft-parecki-oauth-global-token-revocation", serve: (*call).globalTokenRevocation,
			metadata: func(m *oauth.ServerMetadata, url string) {
				m.GlobalTokenRevocationEndpoint = url
				m.GlobalTokenRevocationEndpointAuthMethodsSupported = []string{oauth.AuthMethodClientSecretBasic, oauth.TokenTypeBearer}
			}},
		{path: "/userinfo", methods: getPost, specification: "OpenID Connect Core, section 5.3", cors: corsClient, serve: (*call).userinfo,
			metadata: func(m *oauth.ServerMetadata, url string) { m.UserinfoEndpoint = url }},
		{path: "/challenge", methods: post, specification: "draft-ietf-oauth-attestation-based-client-auth, section 6.3", cors: corsAny, serve: (*call).attestationChallenge,
			metadata: func(m *oauth.ServerMetadata, url string) { m.ChallengeEndpoint = url }},
		{path: "/logout", methods: getPost, specification: "OpenID Connect RP-Initiated Logout", page: true, serve: (*call).logout,
			metadata: func(m *oauth.ServerMetadata, url string) { m.EndSessionEndpoint = url }},
		{path: "/check-session", methods: get, specification: "OpenID Connect Session Management, section 3.3", serve: (*call).checkSession,
			metadata: func(m *oauth.ServerMetadata, url string) { m.CheckSessionIframe = url }},
		{path: statusListPath, methods: get, specification: "draft-ietf-oauth-status-list, section 8", cors: corsAny, serve: (*call).statusList},
		{path: "/jwks", methods: get, specification: "RFC 7517", cors: corsAny, serve: (*call).jwks,
			metadata: func(m *oauth.ServerMetadata, url string) { m.JWKSURI = url }},
		{path: oauth.WellKnownOpenIDConfiguration, methods: get, specification: "OpenID Connect Discovery, section 4", cors: corsAny, serve: (*call).metadata},
		{path: oauth.WellKnownAuthorizationServer, wellKnown: true, methods: get, specification: "RFC 8414, section 3", cors: corsAny, serve: (*call).metadata},
		{path: oauth.WellKnownOpenIDConfiguration, wellKnown: true, methods: get, specification: "RFC 8414, section 5", cors: corsAny, serve: (*call).metadata},
	}
}

func (e *endpoint) allows(method string) bool { return slices.Contains(e.methods, method) }

func (s *Server) newRoutes() (map[string]*endpoint, error) {
	table := s.endpoints()
	routes := make(map[string]*endpoint, len(table))
	for i := range table {
		e := &table[i]
		e.sample = &sample{}
		for _, url := range s.endpointURLs(e.path) {
			uri, err := dpop.NormalizeURI(url)
			if err != nil {
				return nil, fmt.Errorf("issuer: %w", err)
			}
			e.uris = append(e.uris, uri)
		}
		if e.wellKnown {
			routes[e.path+s.basePath] = e
		} else {
			routes[s.basePath+e.path] = e
		}
	}
	return routes, nil
}

// endpointURLs returns the URLs of an endpoint: that of the issuer, and its alias for clients with
// certificates (RFC 8705, section 5).
func (s *Server) endpointURLs(path string) []string {
	urls := []string{s.config.Issuer + path}
	if s.config.MutualTLS != nil && s.config.MutualTLS.Host != "" {
		urls = append(urls, "https://"+s.config.MutualTLS.Host+s.basePath+path)
	}
	return urls
}

// corsPolicy says which origins may read an endpoint's responses. No response allows credentials,
// because the endpoints that scripts call use tokens, not cookies.
type corsPolicy int

const (
	corsNone   corsPolicy = iota // pages: no origin (RFC 9700, section 2.6)
	corsAny                      // public documents: any origin
	corsClient                   // the client's origins, once the client is known
)

// crossOrigin sets the headers that do not depend on the client. Responses with corsClient get
// Access-Control-Allow-Origin in allowOrigin once the client is known.
func (c *call) crossOrigin() {
	switch c.endpoint.cors {
	case corsAny:
		c.w.Header()["Access-Control-Allow-Origin"] = valueAny
	case corsClient:
		c.w.Header()["Vary"] = valueOrigin
	}
}

// preflightHeaders are the headers that scripts may send. The asterisk covers what their libraries
// add, but not Authorization, and old browsers do not support it (Fetch, section 3.3.5).
const preflightHeaders = "Authorization, Content-Type, Accept, DPoP, MCP-Protocol-Version, X-Requested-With, *"

// exposedHeaders are the response headers that scripts may read.
const exposedHeaders = "WWW-Authenticate, Retry-After, DPoP-Nonce"

// allowAnyOrigin lets any origin read an error that contains nothing private, unless the origin of
// the request is allowed already.
func (c *call) allowAnyOrigin() {
	h := c.w.Header()
	if h.Get("Access-Control-Allow-Origin") == "" {
		h.Set("Access-Control-Allow-Origin", "*")
	}
	h.Set("Access-Control-Expose-Headers", exposedHeaders)
}

// preflight responds to OPTIONS. A preflight request has no credentials or parameters, so the client
// is not known yet. The response allows a script to send the request, but not to read the response.
func (c *call) preflight() {
	h := c.w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", strings.Join(c.endpoint.methods, ", "))
	h.Set("Access-Control-Allow-Headers", preflightHeaders)
	h.Set("Access-Control-Max-Age", "600")
	c.w.WriteHeader(http.StatusNoContent)
}

// allowOrigin lets the client's origins read the response.
func (c *call) allowOrigin(client *client) {
	if c.endpoint.cors != corsClient {
		return
	}
	origin := c.r.Header.Get("Origin")
	if origin != "" && slices.Contains(client.origins, origin) {
		c.w.Header().Set("Access-Control-Allow-Origin", origin)
		c.w.Header().Set("Access-Control-Expose-Headers", exposedHeaders)
	}
}

// originsOf returns the web origins of a client: its allowed_origins, and those of its https and
// loopback redirect URIs.
func originsOf(c *record.Client) []string {
	origins := slices.Clone(c.AllowedOrigins)
	for _, uri := range c.RedirectURIs {
		if u, err := url.Parse(uri); err == nil && (u.Scheme == "https" || u.Scheme == "http") {
			if origin := originOf(u); !slices.Contains(origins, origin) {
				origins = append(origins, origin)
			}
		}
	}
	return origins
}

// isOrigin reports whether a string is an origin as a browser sends it (RFC 6454, section 6.2).
// Webviews of applications and browser extensions have their own schemes. "null" and the schemes
// that any page can have are refused.
func isOrigin(origin string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || u.Scheme+"://"+u.Host != origin || u.User != nil {
		return false
	}
	switch u.Scheme {
	case "http", "https":
		return originOf(u) == origin
	case "about", "blob", "data", "file", "filesystem", "javascript", "ws", "wss":
		return false
	}
	return true
}

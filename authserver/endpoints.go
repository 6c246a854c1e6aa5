package authserver

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// endpoint is a row of the route table.
type endpoint struct {
	path string // below the issuer
	// wellKnown puts the path between the issuer's host and path (RFC 8414, section 3.1).
	wellKnown     bool
	methods       []string
	specification string
	cors          corsPolicy
	page          bool // people see it: errors are pages
	serve         func(*call) error
	// metadata sets the member of the server metadata that names the endpoint; nil if
	// none does.
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

// endpoints are those that every server has; a function so that nobody can change them.
func endpoints() []endpoint {
	return []endpoint{
		{path: "/authorize", methods: getPost, specification: "RFC 6749, section 3.1; OpenID Connect Core, section 3.1.2", page: true, serve: (*call).authorize,
			metadata: func(m *oauth.ServerMetadata, url string) { m.AuthorizationEndpoint = url }},
		{path: continuePath, methods: []string{http.MethodGet}, specification: "Valetkey", page: true, serve: (*call).continueInteraction},
		{path: "/token", methods: post, specification: "RFC 6749, section 3.2", cors: corsClient, serve: (*call).token,
			metadata: func(m *oauth.ServerMetadata, url string) { m.TokenEndpoint = url }},
		{path: "/device_authorization", methods: post, specification: "RFC 8628, section 3.1", cors: corsClient, serve: (*call).deviceAuthorization,
			metadata: func(m *oauth.ServerMetadata, url string) { m.DeviceAuthorizationEndpoint = url }},
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

func (s *Server) newRoutes() map[string]*endpoint {
	table := s.endpoints()
	routes := make(map[string]*endpoint, len(table))
	for i := range table {
		e := &table[i]
		if e.wellKnown {
			routes[e.path+s.basePath] = e
		} else {
			routes[s.basePath+e.path] = e
		}
	}
	return routes
}

// corsPolicy says whose scripts may read an endpoint's answers. No answer ever allows
// credentials: the endpoints that browsers call take tokens, not cookies.
type corsPolicy int

const (
	corsNone   corsPolicy = iota // pages: nobody (RFC 9700, section 2.6)
	corsAny                      // public documents: everybody
	corsClient                   // the client's own origins, once the client is known
)

// crossOrigin sets what can be said before the client is known. Answers to corsClient
// get their header in allowOrigin, and none if the client never becomes known.
func (c *call) crossOrigin() {
	switch c.endpoint.cors {
	case corsAny:
		c.w.Header()["Access-Control-Allow-Origin"] = valueAny
	case corsClient:
		c.w.Header()["Vary"] = valueOrigin
	}
}

// preflightHeaders names what scripts send: the asterisk covers what their libraries add, but
// not Authorization, and old browsers do not know it (Fetch, section 3.3.5).
const preflightHeaders = "Authorization, Content-Type, Accept, DPoP, MCP-Protocol-Version, X-Requested-With, *"

// exposedHeaders are those of a response that scripts need beside its body.
const exposedHeaders = "WWW-Authenticate, Retry-After"

// allowAnyOrigin lets every script read an error that reveals nothing private, unless its own
// origin is allowed already.
func (c *call) allowAnyOrigin() {
	h := c.w.Header()
	if h.Get("Access-Control-Allow-Origin") == "" {
		h.Set("Access-Control-Allow-Origin", "*")
	}
	h.Set("Access-Control-Expose-Headers", exposedHeaders)
}

// preflight answers OPTIONS. It comes without credentials or parameters, so no client
// can be known yet; it lets a script send the request, not read the answer.
func (c *call) preflight() {
	h := c.w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", strings.Join(c.endpoint.methods, ", "))
	h.Set("Access-Control-Allow-Headers", preflightHeaders)
	h.Set("Access-Control-Max-Age", "600")
	c.w.WriteHeader(http.StatusNoContent)
}

// allowOrigin lets the client's own scripts read the answer.
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

// originsOf lists the web origins of a client: those of its https and loopback redirect
// URIs, and those that its settings add.
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

// isOrigin reports whether a string is an origin as a browser sends it (RFC 6454, section
// 6.2). The webviews of applications and the extensions of browsers have schemes of their own.
// "null", and schemes in which any page runs, are those of everybody.
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

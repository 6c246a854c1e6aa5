package authserver

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/valetkey/valetkey/storage/record"
)

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

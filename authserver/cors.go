package authserver

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
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

// preflight answers OPTIONS. It comes without credentials or parameters, so no client
// can be known yet; it lets a script send the request, not read the answer.
func (c *call) preflight() {
	h := c.w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", strings.Join(c.endpoint.methods, ", "))
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
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
		c.w.Header().Set("Access-Control-Expose-Headers", "WWW-Authenticate")
	}
}

// originsOf lists the web origins of a client: those of its https and loopback redirect
// URIs, and those that its settings add.
func originsOf(c *Client) []string {
	origins := slices.Clone(c.AllowedOrigins)
	for _, uri := range c.RedirectURIs {
		if u, err := url.Parse(uri); err == nil && (u.Scheme == "https" || u.Scheme == "http") {
			if origin := u.Scheme + "://" + u.Host; !slices.Contains(origins, origin) {
				origins = append(origins, origin)
			}
		}
	}
	return origins
}

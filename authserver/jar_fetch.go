package authserver

import (
	"net/http"
	"slices"
	"strings"

	"github.com/valetkey/valetkey/oauth"
)

// fetchRequestObject gets the object that request_uri refers to, from where the client
// registered (OpenID Connect Core, section 6.2).
func (c *call) fetchRequestObject(cl *client) (string, error) {
	uri := c.params.get("request_uri")
	address, _, _ := strings.Cut(uri, "#") // a fragment says that the content changed: nothing is kept here
	registered := slices.ContainsFunc(cl.RequestURIs, func(r string) bool {
		r, _, _ = strings.Cut(r, "#")
		return r == address
	})
	if !registered {
		return "", c.refuse(&ruleRequestURIRegistered, nearestDifference(cl.RequestURIs, uri))
	}
	from := c.s.remoteAddr(c.r)
	if !c.s.interactions.allowed(from, c.now) {
		err := c.refuse(&ruleInteractions, from.String())
		oauth.AsError(err).Status = http.StatusTooManyRequests
		return "", err
	}
	c.s.interactions.add(from, c.now)
	object, _, err := c.s.remoteOf(cl.Client).Get(c.r.Context(), address, "application/oauth-authz-req+jwt, application/jwt", maxRequestObjectBytes)
	if err != nil {
		return "", c.because(&ruleRequestURIFetched, err)
	}
	return strings.TrimSpace(string(object)), c.must(true, &ruleRequestURIFetched)
}

package authserver

import (
	"slices"
	"strings"
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
	if err := c.takeInteraction(cl, &ruleInteractions); err != nil {
		return "", err
	}
	object, _, err := c.s.outgoingFor(cl.Client).Get(c.r.Context(), address, "application/oauth-authz-req+jwt, application/jwt", maxRequestObjectBytes)
	if err != nil {
		return "", c.because(&ruleRequestURIFetched, err)
	}
	return strings.TrimSpace(string(object)), c.must(true, &ruleRequestURIFetched)
}

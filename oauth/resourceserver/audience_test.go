package resourceserver

import (
	"net/http"
	"testing"

	"github.com/valetkey/valetkey/oauth"
)

// A resource can be written in several ways (RFC 3986, section 6.2.3). The audience has the
// form that is declared at the authorization server.
func TestRS01_AudienceInAnotherForm(t *testing.T) {
	p := newProvider(t)
	for resource, audiences := range map[string]map[string]bool{
		"https://api.example.com": {
			"https://api.example.com/": true, "HTTPS://API.example.com": true, "https://api.example.com:443/": true,
			"https://api.example.com/notes": false, "https://api.example.com:8443": false, "http://api.example.com": false,
		},
		testResource: {
			"https://API.example.com/notes": true, testResource + "/": false, "https://api.example.com/Notes": false,
		},
	} {
		h := p.guard(t, func(c *Config) { c.Resource = resource }).Require()(whoami)
		for audience, good := range audiences {
			response := call(h, "Bearer "+p.signed(t, "one", "at+jwt", claims(map[string]any{"aud": audience})))
			if good {
				accepted(t, response, "alice")
			} else {
				refused(t, response, http.StatusUnauthorized, oauth.InvalidToken)
			}
		}
	}
}

package configuration

import (
	"fmt"

	"github.com/valetkey/valetkey/authserver"
)

// validateProfiles reports what the profile of the server does not allow. What the profile of a
// client does not allow is one of the problems of the client.
func (c *Configuration) validateProfiles(report reporter) {
	if err := authserver.CheckProfile(c.Profile); err != nil {
		report("profile", "%v", err)
		return
	}
	if err := authserver.CheckProfile(c.Registration.Profile); err != nil {
		report("registration.profile", "%v", err)
	}
	for i := range c.Clients {
		if client := c.Clients[i].record(); c.Profile != "" {
			problems := authserver.CheckClientProfile(client, c.Profile)
			if client.Profile != "" { // the others are reported already
				problems = weaker(problems)
			}
			c.reportClient(report, i, problems)
		}
		if c.MutualTLS == nil && authserver.NeedsMutualTLS(c.Clients[i].record(), c.Profile) {
			report(fmt.Sprintf("clients[%d].profile", i), "it requires mutual_tls, to bind access tokens to certificates")
		}
	}
}

// weaker returns the problems of the profile itself.
func weaker(problems []authserver.ClientProblem) (found []authserver.ClientProblem) {
	for _, p := range problems {
		if p.Member == "profile" {
			found = append(found, p)
		}
	}
	return found
}

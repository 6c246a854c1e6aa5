package configuration

import (
	"fmt"
	"net/url"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/identity/upstream"
)

// The values of Configuration.PasswordSignIn.
const (
	PasswordSignInOn  = "on"
	PasswordSignInOff = "off"
)

// validateUpstream does not read the files that providers name: a configuration may be checked where
// secrets are not readable. CheckFiles of the server reads them.
func (c *Configuration) validateUpstream(report reporter) {
	upstream.CheckAll(c.IdentityProviders, func(i int, err error) {
		report(fmt.Sprintf("identity_providers[%d]", i), "%v", err)
	})
	oneOf(report, "password_sign_in", c.PasswordSignIn, PasswordSignInOn, PasswordSignInOff)
	if c.PasswordSignIn == PasswordSignInOff {
		active := 0
		for _, p := range c.IdentityProviders {
			if !p.Disabled {
				active++
			}
		}
		if active == 0 {
			report("password_sign_in", "nobody could sign in: add identity_providers, or remove this setting")
		}
		if c.SignUp {
			report("sign_up", "requires passwords: remove password_sign_in: off, or let the rule of a provider create accounts")
		}
	}
	if c.Contact != "" && !identity.ValidEmailAddress(c.Contact) {
		if u, err := url.Parse(c.Contact); err != nil || u.Scheme != "https" || u.Host == "" {
			report("contact", "%q is neither an email address nor an https URL", c.Contact)
		}
	}
	for i := range c.Clients {
		for j, group := range c.Clients[i].AllowedGroups {
			if group == "" || len(group) > 255 {
				report(fmt.Sprintf("clients[%d].allowed_groups[%d]", i, j), "use the name of a group, of at most 255 bytes")
			}
		}
	}
}

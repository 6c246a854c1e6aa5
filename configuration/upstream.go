package configuration

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/identity/directory"
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
	c.validateDirectories(report)
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
		if len(c.Directories) > 0 {
			report("directories", "requires the form for passwords: remove password_sign_in: off")
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

// validateDirectories does not read the files that directories name. The links of accounts name a
// provider or a directory, so they share one set of IDs and domains.
func (c *Configuration) validateDirectories(report reporter) {
	directory.CheckAll(c.Directories, func(i int, err error) {
		report(fmt.Sprintf("directories[%d]", i), "%v", err)
	})
	for i, d := range c.Directories {
		for _, p := range c.IdentityProviders {
			if p.ID == d.ID {
				report(fmt.Sprintf("directories[%d].id", i), "%q is that of an identity provider", d.ID)
			}
			for _, domain := range p.Domains {
				if slices.ContainsFunc(d.Domains, func(own string) bool { return strings.EqualFold(own, domain) }) {
					report(fmt.Sprintf("directories[%d].domains", i), "%q belongs to the identity provider %q too", domain, p.ID)
				}
			}
		}
	}
}

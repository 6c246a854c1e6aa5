package configuration

import (
	"fmt"
	"strings"

	"github.com/valetkey/valetkey/ui/theme"
)

// validateTheme checks the theme, except for the files that it names.
func (c *Configuration) validateTheme(report reporter) {
	if c.Theme == nil {
		return
	}
	check := func(prefix string, t theme.Theme) {
		if _, err := t.WithoutFiles(); err != nil {
			member, reason, _ := strings.Cut(err.Error(), ": ")
			report(prefix+member, "%s", reason)
		}
	}
	check("theme.", c.Theme.Theme)
	seen := map[string]bool{}
	for i, t := range c.Theme.Clients {
		member := fmt.Sprintf("theme.clients[%d].", i)
		if t.ClientID == "" || seen[t.ClientID] {
			report(member+"client_id", "is required, and each client can have one theme")
		}
		seen[t.ClientID] = true
		check(member, t.Over(c.Theme.Theme))
	}
}

// LoadTheme reads the theme of the server and those of clients, with their files.
func (c *Configuration) LoadTheme() (server *theme.Loaded, clients map[string]*theme.Loaded, err error) {
	if c.Theme == nil {
		return theme.Default(), nil, nil
	}
	if server, err = c.Theme.Load(); err != nil {
		return nil, nil, fmt.Errorf("theme.%w", err)
	}
	clients = map[string]*theme.Loaded{}
	for i, t := range c.Theme.Clients {
		own := t.Over(c.Theme.Theme)
		if clients[t.ClientID], err = own.Load(); err != nil {
			return nil, nil, fmt.Errorf("theme.clients[%d].%w", i, err)
		}
	}
	return server, clients, nil
}

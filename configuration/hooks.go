package configuration

import (
	"fmt"
	"strings"

	"github.com/valetkey/valetkey/storage/record"
)

// Hook is a service of the operator that adds claims to tokens, or refuses to issue them.
type Hook struct {
	URL string `json:"url"`
	// Secret signs the requests; SecretFile is a file that contains it.
	Secret     string          `json:"secret,omitempty"`
	SecretFile string          `json:"secret_file,omitempty"`
	Events     []string        `json:"events,omitempty"`
	Timeout    record.Duration `json:"timeout,omitzero"`
	Clients    []string        `json:"clients,omitempty"`
	Resources  []string        `json:"resources,omitempty"`
	GrantTypes []string        `json:"grant_types,omitempty"`
}

// validateHooks does not read secret_file: a configuration may be checked where the secret is
// not readable.
func (c *Configuration) validateHooks(report reporter) {
	for i := range c.Hooks {
		h := c.Hooks[i]
		path := fmt.Sprintf("hooks[%d]", i)
		if (h.Secret == "") == (h.SecretFile == "") {
			report(path, "either secret or secret_file is required")
			continue
		}
		if h.SecretFile != "" {
			h.SecretFile, h.Secret = "", "whsec_"+strings.Repeat("AAAA", 8)
		}
		w, err := h.engine()
		if err == nil {
			err = w.Check()
		}
		if err != nil {
			report(path, "%v", err)
		}
	}
}

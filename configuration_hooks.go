package valetkey

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/valetkey/valetkey/authserver"
)

// Hook is a service of the operator's that adds claims to tokens, or refuses them.
type Hook struct {
	URL string `json:"url"`
	// Secret signs the requests; SecretFile is a file that holds it.
	Secret     string   `json:"secret,omitempty"`
	SecretFile string   `json:"secret_file,omitempty"`
	Events     []string `json:"events,omitempty"`
	Timeout    Duration `json:"timeout,omitzero"`
	Clients    []string `json:"clients,omitempty"`
	Resources  []string `json:"resources,omitempty"`
	GrantTypes []string `json:"grant_types,omitempty"`
}

func (h *Hook) engine() (authserver.Webhook, error) {
	w := authserver.Webhook{
		URL: h.URL, Secret: h.Secret, Events: h.Events, Timeout: time.Duration(h.Timeout),
		Clients: h.Clients, Resources: h.Resources, GrantTypes: h.GrantTypes,
	}
	if h.SecretFile != "" {
		secret, err := os.ReadFile(h.SecretFile)
		if err != nil {
			return w, fmt.Errorf("hook: read secret_file: %w", err)
		}
		w.Secret = strings.TrimSpace(string(secret))
	}
	return w, nil
}

// validateHooks leaves what is in a file of a secret to the start: "valetkey check" may run
// where nobody can read it.
func (c *Configuration) validateHooks(report reporter) {
	for i := range c.Hooks {
		h := c.Hooks[i]
		path := fmt.Sprintf("hooks[%d]", i)
		if (h.Secret == "") == (h.SecretFile == "") {
			report(path, "one of secret and secret_file is needed")
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

// webhooks returns the hooks with their secrets.
func (c *Configuration) webhooks() ([]authserver.Webhook, error) {
	var webhooks []authserver.Webhook
	for i := range c.Hooks {
		w, err := c.Hooks[i].engine()
		if err != nil {
			return nil, err
		}
		webhooks = append(webhooks, w)
	}
	return webhooks, nil
}

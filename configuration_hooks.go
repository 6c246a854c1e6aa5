package valetkey

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
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
		secret, err := readSecretFile(h.SecretFile)
		if err != nil {
			return w, fmt.Errorf("secret_file: %w", err)
		}
		w.Secret = secret
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

// warnOfHooks names what hooks are limited to and is not there: a hook that is never asked
// refuses nothing.
func (s *Server) warnOfHooks(ctx context.Context) error {
	resources, err := s.store.Resources(ctx)
	if err != nil {
		return fmt.Errorf("read resources: %w", err)
	}
	for i, h := range s.config.Hooks {
		for _, id := range h.Clients {
			if _, err := s.store.Client(ctx, id); errors.Is(err, storage.ErrNotFound) {
				s.log.WarnContext(ctx, fmt.Sprintf("hooks[%d] is for the client %q, which is not there", i, id))
			} else if err != nil {
				return fmt.Errorf("read client: %w", err)
			}
		}
		for _, identifier := range h.Resources {
			if !slices.ContainsFunc(resources, func(r record.Resource) bool { return oauth.SameResource(r.Identifier, identifier) }) {
				s.log.WarnContext(ctx, fmt.Sprintf("hooks[%d] is for the resource %q, which is not there", i, identifier))
			}
		}
	}
	return nil
}

// webhooks returns the hooks with their secrets.
func (c *Configuration) webhooks() ([]authserver.Webhook, error) {
	var webhooks []authserver.Webhook
	for i := range c.Hooks {
		w, err := c.Hooks[i].engine()
		if err != nil {
			return nil, fmt.Errorf("hooks[%d]: %w", i, err)
		}
		webhooks = append(webhooks, w)
	}
	return webhooks, nil
}

package manage

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/danielgtaylor/huma/v2"

	"github.com/valetkey/valetkey/manage/api"
)

// Some settings are only in the configuration file. They are shown, and changing them is refused with
// the name of the file.

type sectionOutput struct{ Body api.Section }

func (a *API) registerConfiguration() {
	for _, s := range []struct {
		name, summary string
		settings      func() map[string]any
	}{
		{"trusted-issuers", "external issuers whose assertions are accepted", a.trustedIssuers},
		{"rules", "rules about claims, sign-in, token exchange and registration", a.rules},
		{"hooks", "services that are called before tokens are issued", a.hooks},
	} {
		register(a, api.RulesRead, operation{id: "get-" + s.name, method: http.MethodGet, path: "/" + s.name, summary: "Get the " + s.summary},
			func(context.Context, *principal, *struct{}) (*sectionOutput, error) {
				section := api.Section{DeclaredBy: a.configurationFile(), Settings: map[string]json.RawMessage{}}
				for name, value := range s.settings() {
					encoded, err := json.Marshal(value)
					if err != nil {
						return nil, fmt.Errorf("encode %s: %w", name, err)
					}
					section.Settings[name] = encoded
				}
				return &sectionOutput{section}, nil
			})
		register(a, api.RulesRead, operation{id: "update-" + s.name, method: http.MethodPut, path: "/" + s.name, summary: "Always refused: says where the " + s.summary + " are changed", refuses: true},
			func(context.Context, *principal, *struct{ Body map[string]any }) (*struct{}, error) {
				return nil, huma.Error409Conflict(fmt.Sprintf("the %s are set in %s: change them there, then restart the server", s.summary, a.configurationFile()))
			})
	}
}

func (a *API) configurationFile() string {
	return cmp.Or(a.config.File, "the configuration of the program that embeds the server")
}

func (a *API) trustedIssuers() map[string]any {
	return map[string]any{"trusted_issuers": notNil(a.config.Configuration.TrustedIssuers)}
}

func (a *API) rules() map[string]any {
	c := a.config.Configuration
	sources := make([]map[string]any, len(c.ClaimSources))
	for i := range c.ClaimSources {
		sources[i] = map[string]any{"name": c.ClaimSources[i].Name, "claims": c.ClaimSources[i].Claims}
	}
	return map[string]any{
		"claims": notNil(c.Claims), "claim_sources": sources, "token_exchange": notNil(c.TokenExchange), "sign_in": c.SignIn,
		"authorization_details_types": notNil(c.AuthorizationDetailsTypes), "profile": c.Profile,
		"registration_mode": cmp.Or(c.Registration.Mode, "off"), "registration_scope": c.Registration.Scope,
	}
}

// hooks returns the services without their secrets, which may also be in their URLs.
func (a *API) hooks() map[string]any {
	hooks := make([]map[string]any, len(a.config.Configuration.Hooks))
	for i := range hooks {
		h := &a.config.Configuration.Hooks[i]
		address := ""
		if u, err := url.Parse(h.URL); err == nil {
			address = u.Scheme + "://" + u.Host + u.Path
		}
		hooks[i] = map[string]any{"url": address, "events": notNil(h.Events), "clients": notNil(h.Clients), "resources": notNil(h.Resources), "grant_types": notNil(h.GrantTypes)}
	}
	return map[string]any{"hooks": hooks}
}

// notNil returns a list that is encoded as an array.
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

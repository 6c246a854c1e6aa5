package authserver

import (
	"net/url"
	"slices"

	"github.com/valetkey/valetkey/oauth"
)

var (
	ruleClientConfidential = rule{
		must:    "the client has credentials",
		section: "RFC 6749, section 4.4", code: oauth.UnauthorizedClient,
		says: "client_credentials is for confidential clients",
		fix:  "give the client a secret or a key",
	}
	ruleClientScope = rule{
		must:    "the client may have each scope without a user",
		section: "RFC 6749, section 4.4.2", code: oauth.InvalidScope,
		says: "a scope is unknown, not allowed for this client, or needs a user",
		fix:  "add the scope to the client's scope; openid, offline_access and scopes about a user need the code flow",
	}
)

// grantClientCredentials entitles a client to its own tokens (RFC 6749, section 4.4). It stores
// nothing.
func (c *call) grantClientCredentials() (*entitlement, error) {
	if err := c.must(!c.client.Public(), &ruleClientConfidential); err != nil {
		return nil, err
	}
	scope, err := oauth.ParseScope(c.params.get("scope"))
	if err != nil {
		return nil, err
	}
	catalogue, err := c.catalogue()
	if err != nil {
		return nil, err
	}
	if scope == nil {
		for _, name := range c.client.scope {
			if !aboutUser(name) {
				scope = append(scope, name)
			}
		}
	}
	for _, name := range scope {
		_, known := catalogue.scopes[name]
		if !known || aboutUser(name) || !c.client.scope.Has(name) {
			return nil, c.refuse(&ruleClientScope, "scope "+name+"; the client's scope is "+c.client.scope.String())
		}
	}
	resources, err := c.requestedResources()
	if err != nil {
		return nil, err
	}
	return &entitlement{
		authorization: authorization{ClientID: c.client.ID, Scope: scope},
		scope:         scope, resources: resources,
	}, nil
}

// aboutUser reports whether a scope makes sense only with a user.
func aboutUser(scope string) bool {
	_, claims := oauth.ScopeClaims[scope]
	return claims || scope == oauth.ScopeOpenID || scope == oauth.ScopeOfflineAccess
}

// requestedResources returns the resources that the request names (RFC 8707, section 2), by their
// declared identifiers.
func (c *call) requestedResources() ([]string, error) {
	requested := c.params.all("resource")
	if len(requested) == 0 {
		return nil, nil
	}
	if len(requested) > maxResources {
		return nil, c.refuse(&ruleResourceSyntax, "more than 16")
	}
	catalogue, err := c.catalogue()
	if err != nil {
		return nil, err
	}
	var declared []string
	for _, resource := range requested {
		u, err := url.Parse(resource)
		if err != nil || !u.IsAbs() || u.Fragment != "" {
			return nil, c.refuse(&ruleResourceSyntax, resource)
		}
		known := catalogue.resource(resource)
		if known == nil || !c.client.mayUse(known.Identifier) {
			return nil, c.refuse(&ruleResourceKnown, resource)
		}
		declared = append(declared, known.Identifier)
	}
	return slices.Compact(slices.Sorted(slices.Values(declared))), nil
}

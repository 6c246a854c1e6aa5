package authserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/valetkey/valetkey/oauth"
)

// ClaimMapping makes a claim that clients see, of one that is stored or of nothing.
type ClaimMapping struct {
	Name string `json:"name"`
	// From is the person's claim that it is taken from, and Value what it is for everybody;
	// one of them is set. A person without the claim has none of this name.
	From  string `json:"from,omitempty"`
	Value any    `json:"value,omitempty"`
	// Clients are the client_ids for which the mapping holds; nil: all. Where two mappings
	// of a name hold, the later one counts.
	Clients []string `json:"clients,omitempty"`
}

// Check reports why a mapping cannot stand.
func (m ClaimMapping) Check() error {
	if err := checkClaim(m.Name); err != nil {
		return fmt.Errorf("name %q: %w", m.Name, err)
	}
	if (m.From == "") == (m.Value == nil) {
		return errors.New("one of from and value is needed")
	}
	return nil
}

// checkClaim refuses the protocol's names, with a language tag too.
func checkClaim(name string) error {
	plain, _, _ := strings.Cut(name, "#")
	return errors.Join(oauth.CheckClaimName(name), oauth.CheckClaimName(plain))
}

// ClaimSource is another who vouches for claims about people (OpenID Connect Core, section
// 5.6.2). What it has to say of a person stands among that person's own claims.
type ClaimSource struct {
	// Name is the source's member of _claim_sources.
	Name   string   `json:"name"`
	Claims []string `json:"claims"`
	// JWTFrom is the claim that holds a JWT of the source: its claims are aggregated.
	JWTFrom string `json:"jwt_from,omitempty"`
	// Endpoint is where clients get the claims: they are distributed. AccessTokenFrom is the
	// claim that holds the access token for it.
	Endpoint        string `json:"endpoint,omitempty"`
	AccessTokenFrom string `json:"access_token_from,omitempty"`
}

// Check reports why a source cannot stand.
func (s ClaimSource) Check() error {
	if s.Name == "" || len(s.Claims) == 0 {
		return errors.New("name and claims are needed")
	}
	for _, name := range s.Claims {
		if err := checkClaim(name); err != nil {
			return fmt.Errorf("claims: %q: %w", name, err)
		}
	}
	aggregated, distributed := s.JWTFrom != "", s.Endpoint != "" && s.AccessTokenFrom != ""
	if aggregated == distributed || aggregated && (s.Endpoint != "" || s.AccessTokenFrom != "") {
		return errors.New("either jwt_from, or endpoint and access_token_from, is needed")
	}
	if distributed && !isWebAddress(s.Endpoint) {
		return fmt.Errorf("endpoint: %q is not an https URL", s.Endpoint)
	}
	return nil
}

// of returns what a client needs to get the claims of a person; nil if the source knows
// nothing about this one.
func (s *ClaimSource) of(person oauth.Claims) map[string]string {
	if s.JWTFrom != "" {
		if token, ok := person[s.JWTFrom].(string); ok && token != "" {
			return map[string]string{"JWT": token}
		}
		return nil
	}
	token, ok := person[s.AccessTokenFrom].(string)
	if !ok || token == "" {
		return nil
	}
	return map[string]string{"endpoint": s.Endpoint, "access_token": token}
}

// claimsWanted says which claims are to be released.
type claimsWanted struct {
	scope oauth.Scope
	// asked is userinfo or id_token of the claims parameter.
	asked map[string]*oauth.ClaimRequest
	// locales are languages in which claims are wanted beside the one without a tag.
	locales []string
	// byBrowser says that the answer travels through the browser, where no access token for
	// a source belongs (RFC 9700, section 4.3.2).
	byBrowser bool
}

// personClaims returns what the client may see of a person; storage.ErrNotFound if the
// person is gone.
func (c *call) personClaims(ctx context.Context, subject string, wanted claimsWanted) (oauth.Claims, error) {
	person, err := c.s.config.Claims(ctx, subject)
	if err != nil {
		return nil, err
	}
	catalogue, err := c.s.catalogue(ctx)
	if err != nil {
		return nil, err
	}
	released := oauth.Claims{}
	mapped := c.s.mapClaims(c.client.ID, person)
	for _, name := range wanted.scope {
		for _, claim := range catalogue.scopes[name].Claims {
			c.s.release(released, person, mapped, claim, nil, &wanted)
		}
	}
	for name, request := range wanted.asked {
		// The claims parameter chooses among what the client's scopes could give it, and
		// gives no more.
		if !catalogue.releases(c.client.scope, name) {
			continue
		}
		c.s.release(released, person, mapped, name, request, &wanted)
	}
	return released, nil
}

// releases reports whether one of the scopes releases a claim, in whatever language.
func (c *catalogue) releases(scope oauth.Scope, claim string) bool {
	plain, _, _ := strings.Cut(claim, "#")
	return slices.ContainsFunc(scope, func(name string) bool { return slices.Contains(c.scopes[name].Claims, plain) })
}

// consentFor returns what the person must allow: the scopes that are asked for, and for a
// claim that the claims parameter asks for beside them, a scope of the client's that would
// give it.
func (c *call) consentFor(request *authorizationRequest) (oauth.Scope, error) {
	if request.claims == nil {
		return request.scope, nil
	}
	catalogue, err := c.s.catalogue(c.r.Context())
	if err != nil {
		return nil, err
	}
	consent := slices.Clone(request.scope)
	for _, asked := range []map[string]*oauth.ClaimRequest{request.claims.Userinfo, request.claims.IDToken} {
		for _, claim := range slices.Sorted(maps.Keys(asked)) {
			if catalogue.releases(consent, claim) {
				continue
			}
			for _, name := range catalogue.scopeNames {
				if request.client.scope.Has(name) && catalogue.releases(oauth.Scope{name}, claim) {
					consent = append(consent, name)
					break
				}
			}
		}
	}
	slices.Sort(consent[len(request.scope):])
	return consent, nil
}

// grantedClaims leaves out of a claims parameter what the person did not allow.
func (c *call) grantedClaims(asked *oauth.ClaimsRequest, granted oauth.Scope) (*oauth.ClaimsRequest, error) {
	if asked == nil {
		return nil, nil
	}
	catalogue, err := c.s.catalogue(c.r.Context())
	if err != nil {
		return nil, err
	}
	allowed := func(claims map[string]*oauth.ClaimRequest) map[string]*oauth.ClaimRequest {
		kept := maps.Clone(claims)
		maps.DeleteFunc(kept, func(name string, _ *oauth.ClaimRequest) bool { return !catalogue.releases(granted, name) })
		return kept
	}
	return &oauth.ClaimsRequest{Userinfo: allowed(asked.Userinfo), IDToken: allowed(asked.IDToken)}, nil
}

// mapClaims returns a person's claims as a client sees them.
func (s *Server) mapClaims(clientID string, person oauth.Claims) oauth.Claims {
	if len(s.config.ClaimMappings) == 0 {
		return person
	}
	mapped := make(oauth.Claims, len(person)+len(s.config.ClaimMappings))
	for name, value := range person {
		mapped[name] = value
	}
	for _, m := range s.config.ClaimMappings {
		if m.Clients != nil && !slices.Contains(m.Clients, clientID) {
			continue
		}
		if m.From == "" {
			mapped[m.Name] = m.Value
		} else if value, ok := person[m.From]; ok {
			mapped[m.Name] = value
		} else {
			delete(mapped, m.Name)
		}
	}
	return mapped
}

// release adds a claim in the languages that are wanted, or says who vouches for it. A claim
// that the person has no value for is left out (OpenID Connect Core, section 5.3.2), and so
// is one whose value is none of those that are asked for (section 5.5.1).
func (s *Server) release(released, person, claims oauth.Claims, name string, request *oauth.ClaimRequest, wanted *claimsWanted) {
	if checkClaim(name) != nil {
		return
	}
	if value, ok := claims[name]; ok && request.Accepts(value) {
		released[name] = value
	}
	for _, locale := range wanted.locales {
		if tagged, value, ok := localized(claims, name, locale); ok && request.Accepts(value) {
			released[tagged] = value
		}
	}
	if _, ok := claims[name]; ok {
		return
	}
	for i := range s.config.ClaimSources {
		source := &s.config.ClaimSources[i]
		if !slices.Contains(source.Claims, name) || source.Endpoint != "" && wanted.byBrowser {
			continue
		}
		members := source.of(person)
		if members == nil {
			continue
		}
		names, _ := released["_claim_names"].(map[string]string)
		sources, _ := released["_claim_sources"].(map[string]map[string]string)
		if names == nil {
			names, sources = map[string]string{}, map[string]map[string]string{}
			released["_claim_names"], released["_claim_sources"] = names, sources
		}
		names[name], sources[source.Name] = source.Name, members
		return
	}
}

// localized finds a claim in a language; tags are compared without case (BCP 47).
func localized(claims oauth.Claims, name, locale string) (tagged string, value any, ok bool) {
	for tagged, value := range claims {
		if plain, tag, is := strings.Cut(tagged, "#"); is && plain == name && strings.EqualFold(tag, locale) {
			return tagged, value, true
		}
	}
	return "", nil, false
}

// claimTypes lists how claims can come (OpenID Connect Discovery, section 3).
func (s *Server) claimTypes() []string {
	types := []string{"normal"}
	for _, source := range s.config.ClaimSources {
		kind := "distributed"
		if source.JWTFrom != "" {
			kind = "aggregated"
		}
		if !slices.Contains(types, kind) {
			types = append(types, kind)
		}
	}
	slices.Sort(types[1:])
	return types
}

// claimNames lists the claims of the protocol that clients look for, and those that some
// scope, mapping or source has.
func (s *Server) claimNames(catalogue *catalogue) []string {
	names := []string{"sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "azp"}
	add := func(claims ...string) {
		for _, claim := range claims {
			if !slices.Contains(names, claim) {
				names = append(names, claim)
			}
		}
	}
	for _, scope := range catalogue.scopeNames {
		add(catalogue.scopes[scope].Claims...)
	}
	for _, m := range s.config.ClaimMappings {
		add(m.Name)
	}
	for _, source := range s.config.ClaimSources {
		add(source.Claims...)
	}
	return names
}

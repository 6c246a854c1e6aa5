package authserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/valetkey/valetkey/internal/expression"
	"github.com/valetkey/valetkey/oauth"
)

// ClaimMapping defines a claim that clients see: from another claim, a constant or an
// expression.
type ClaimMapping struct {
	Name string `json:"name"`
	// Exactly one of these three is set. From is the claim of the user to copy. Value is a
	// constant for all users. Expression computes the claim. If the user does not have the
	// claim From, or the expression returns nil, the claim is left out.
	From       string `json:"from,omitempty"`
	Value      any    `json:"value,omitempty"`
	Expression string `json:"expression,omitempty"`
	// Clients are the client_ids that the mapping applies to; nil means all. If two mappings of
	// the same name apply, the later one is used.
	Clients []string `json:"clients,omitempty"`
}

// Check returns an error if the mapping is not valid.
func (m ClaimMapping) Check() error {
	if err := checkClaim(m.Name); err != nil {
		return fmt.Errorf("name %q: %w", m.Name, err)
	}
	sources := 0
	for _, set := range [...]bool{m.From != "", m.Value != nil, m.Expression != ""} {
		if set {
			sources++
		}
	}
	if sources != 1 {
		return errors.New("set one of from, value and expression")
	}
	if m.Expression != "" {
		return CheckExpression(m.Expression)
	}
	return nil
}

// claimMapping is a mapping with its expression compiled.
type claimMapping struct {
	ClaimMapping
	plain   string // the name without a language tag
	program *expression.Program
}

func newClaimMappings(mappings []ClaimMapping) ([]claimMapping, error) {
	compiled := make([]claimMapping, len(mappings))
	for i, m := range mappings {
		if err := m.Check(); err != nil {
			return nil, fmt.Errorf("claim mapping: %w", err)
		}
		compiled[i].ClaimMapping = m
		compiled[i].plain, _, _ = strings.Cut(m.Name, "#")
		if m.Expression == "" {
			continue
		}
		var err error
		if compiled[i].program, err = compileExpression(m.Expression); err != nil {
			return nil, fmt.Errorf("claim mapping %q: %w", m.Name, err)
		}
	}
	return compiled, nil
}

// checkClaim refuses the names of claims that the protocol defines, also with a language tag.
func checkClaim(name string) error {
	if err := oauth.CheckClaimName(name); err != nil {
		return err
	}
	plain, _, _ := strings.Cut(name, "#")
	return oauth.CheckClaimName(plain)
}

// ClaimSource is a third party that provides claims about users as aggregated or distributed
// claims (OpenID Connect Core, section 5.6.2). The JWT or access token of the source is stored
// as a claim of the user.
type ClaimSource struct {
	// Name is the name of the source in _claim_sources.
	Name   string   `json:"name"`
	Claims []string `json:"claims"`
	// JWTFrom is the user's claim with a JWT of the source. It is set for aggregated claims.
	JWTFrom string `json:"jwt_from,omitempty"`
	// Endpoint is the URL where clients get the claims, and AccessTokenFrom is the user's claim
	// with the access token for it. Both are set for distributed claims.
	Endpoint        string `json:"endpoint,omitempty"`
	AccessTokenFrom string `json:"access_token_from,omitempty"`
}

// Check returns an error if the source is not valid.
func (s ClaimSource) Check() error {
	if s.Name == "" || len(s.Claims) == 0 {
		return errors.New("name or claims is missing")
	}
	for _, name := range s.Claims {
		if err := checkClaim(name); err != nil {
			return fmt.Errorf("claims: %q: %w", name, err)
		}
	}
	aggregated, distributed := s.JWTFrom != "", s.Endpoint != "" && s.AccessTokenFrom != ""
	if aggregated == distributed || aggregated && (s.Endpoint != "" || s.AccessTokenFrom != "") {
		return errors.New("set either jwt_from, or endpoint and access_token_from")
	}
	if distributed && !isWebAddress(s.Endpoint) {
		return fmt.Errorf("endpoint: %q is not an https URL", s.Endpoint)
	}
	return nil
}

// membersFor returns the members of _claim_sources for a user, or nil if the source has no
// claims about the user.
func (s *ClaimSource) membersFor(user oauth.Claims) map[string]string {
	if s.JWTFrom != "" {
		if token, ok := user[s.JWTFrom].(string); ok && token != "" {
			return map[string]string{"JWT": token}
		}
		return nil
	}
	token, ok := user[s.AccessTokenFrom].(string)
	if !ok || token == "" {
		return nil
	}
	return map[string]string{"endpoint": s.Endpoint, "access_token": token}
}

// claimsWanted selects the claims to release.
type claimsWanted struct {
	scope oauth.Scope
	// names are claims that the operator has configured, independent of the scope.
	names []string
	// granted and resources are the scope and audience of the token or response. Expressions
	// can use them.
	granted   oauth.Scope
	resources []string
	// asked is the member userinfo or id_token of the claims parameter.
	asked map[string]*oauth.ClaimRequest
	// locales are the languages to add to the claims without a language tag.
	locales []string
	// byBrowser leaves out access tokens for distributed claims, because the response passes
	// through the browser (RFC 9700, section 4.3.2).
	byBrowser bool
}

// userClaims returns the claims about a user that the client may see, or storage.ErrNotFound
// if the user does not exist.
func (c *call) userClaims(ctx context.Context, subject string, wanted claimsWanted) (oauth.Claims, error) {
	user, err := c.s.config.Users.Claims(ctx, subject)
	if err != nil {
		return nil, err
	}
	catalogue, err := c.catalogue()
	if err != nil {
		return nil, err
	}
	// Names first, then values: expressions for claims that are not released are not evaluated,
	// so they cost nothing and cannot fail.
	names := map[string]*oauth.ClaimRequest{}
	for name, request := range wanted.asked {
		// The claims parameter can only select claims that one of the client's scopes releases.
		if catalogue.releases(c.client.scope, name) {
			names[name] = request
		}
	}
	for _, name := range wanted.scope {
		for _, claim := range catalogue.scopes[name].Claims {
			names[claim] = nil
		}
	}
	for _, name := range wanted.names {
		names[name] = nil
	}
	mapped, err := c.mapClaims(user, names, &wanted)
	if err != nil {
		return nil, err
	}
	released := oauth.Claims{}
	for name, request := range names {
		c.s.release(released, user, mapped, name, request, &wanted)
	}
	return released, nil
}

// releases reports whether one of the scopes releases a claim. A language tag is ignored.
func (c *catalogue) releases(scope oauth.Scope, claim string) bool {
	plain, _, _ := strings.Cut(claim, "#")
	return slices.ContainsFunc(scope, func(name string) bool { return slices.Contains(c.scopes[name].Claims, plain) })
}

// consentFor returns the scopes that need the user's consent: the requested ones, and one that
// releases each further claim in the claims parameter, if the client has such a scope.
func consentFor(catalogue *catalogue, request *authorizationRequest) oauth.Scope {
	if request.claims == nil {
		return request.scope
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
	return consent
}

// grantedClaims returns a claims parameter without the claims that the user did not allow.
func (c *catalogue) grantedClaims(asked *oauth.ClaimsRequest, granted oauth.Scope) *oauth.ClaimsRequest {
	if asked == nil {
		return nil
	}
	allowed := func(claims map[string]*oauth.ClaimRequest) map[string]*oauth.ClaimRequest {
		kept := maps.Clone(claims)
		maps.DeleteFunc(kept, func(name string, _ *oauth.ClaimRequest) bool { return !c.releases(granted, name) })
		return kept
	}
	return &oauth.ClaimsRequest{Userinfo: allowed(asked.Userinfo), IDToken: allowed(asked.IDToken)}
}

// mapClaims returns a user's claims after the mappings for this client. Only the mappings for
// the given names are applied.
func (c *call) mapClaims(user oauth.Claims, names map[string]*oauth.ClaimRequest, wanted *claimsWanted) (oauth.Claims, error) {
	if len(c.s.mappings) == 0 {
		return user, nil
	}
	mapped := make(oauth.Claims, len(user)+len(c.s.mappings))
	for name, value := range user {
		mapped[name] = value
	}
	for i := range c.s.mappings {
		m := &c.s.mappings[i]
		_, plain := names[m.plain]
		if _, tagged := names[m.Name]; !plain && !tagged || m.Clients != nil && !slices.Contains(m.Clients, c.client.ID) {
			continue
		}
		value, ok := user[m.From]
		switch {
		case m.program != nil:
			var err error
			if value, err = c.evaluate(m, user, wanted); err != nil {
				return nil, err
			}
			ok = value != nil
		case m.From == "":
			value, ok = m.Value, true
		}
		if ok {
			mapped[m.Name] = value
		} else {
			delete(mapped, m.Name)
		}
	}
	return mapped, nil
}

// evaluate computes a claim with its expression. If that fails, the request fails: an API
// might treat a missing claim as permission.
func (c *call) evaluate(m *claimMapping, user oauth.Claims, wanted *claimsWanted) (any, error) {
	value, err := evaluate(m.program, &expressionValues{
		Person: user, ClientID: c.client.ID, ClientName: c.client.name(), Scope: wanted.granted, Resource: wanted.resources,
	})
	if err != nil {
		return nil, c.because(&ruleClaimExpression, fmt.Errorf("claim %q: %w", m.Name, err))
	}
	return value, nil
}

// release adds a claim in the requested languages, or a reference to its source. A claim without
// a value is left out (OpenID Connect Core, section 5.3.2), and so is one that does not have a
// requested value (section 5.5.1).
func (s *Server) release(released, user, claims oauth.Claims, name string, request *oauth.ClaimRequest, wanted *claimsWanted) {
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
	for i := range s.config.Claims.Sources {
		source := &s.config.Claims.Sources[i]
		if !slices.Contains(source.Claims, name) || source.Endpoint != "" && wanted.byBrowser {
			continue
		}
		members := source.membersFor(user)
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

// localized returns a claim in a language. Language tags are case-insensitive (BCP 47).
func localized(claims oauth.Claims, name, locale string) (tagged string, value any, ok bool) {
	for tagged, value := range claims {
		if plain, tag, is := strings.Cut(tagged, "#"); is && plain == name && strings.EqualFold(tag, locale) {
			return tagged, value, true
		}
	}
	return "", nil, false
}

// claimTypes returns claim_types_supported (OpenID Connect Discovery, section 3).
func (s *Server) claimTypes() []string {
	types := []string{"normal"}
	for _, source := range s.config.Claims.Sources {
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

// claimNames returns claims_supported: the protocol's claims that clients look for, and the
// claims of all scopes, mappings and sources.
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
	for _, m := range s.config.Claims.Mappings {
		add(m.Name)
	}
	for _, source := range s.config.Claims.Sources {
		add(source.Claims...)
	}
	return names
}

// maxExpressionResults limits the size of a computed claim as JSON.
const maxExpressionResults = 4 << 10

// expressionValues are the variables of an expression. It has access to nothing else.
type expressionValues struct {
	// Person has the user's claims. It is empty for a client's own token.
	Person     map[string]any `expr:"person"`
	ClientID   string         `expr:"client_id"`
	ClientName string         `expr:"client_name"`
	// Scope and Resource are the scope and audience of the token or response.
	Scope    []string `expr:"scope"`
	Resource []string `expr:"resource"`
}

// CheckExpression returns an error if the expression of a claim is not valid: because of its
// syntax, an unknown name, mismatched types or its size.
func CheckExpression(text string) error {
	_, err := compileExpression(text)
	return err
}

func compileExpression(text string) (*expression.Program, error) {
	return expression.Compile(text, expressionValues{})
}

// evaluate returns the value of an expression, which can be nil.
func evaluate(program *expression.Program, values *expressionValues) (any, error) {
	return program.Evaluate(values, maxExpressionResults)
}

var ruleClaimExpression = rule{
	must:    "the expressions for the claims can be evaluated",
	section: "Valetkey", code: oauth.ServerError,
	says: "a claim could not be computed; the operator can look up the reference",
	fix:  "correct the claim's expression: a claim that the user does not have is nil (person.groups ?? [])",
}

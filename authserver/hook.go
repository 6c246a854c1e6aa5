package authserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// The values of TokenRequest.Kind: where the claims of a hook go.
const (
	ClaimsOfAccessToken = "access_token"
	ClaimsOfIDToken     = "id_token"
	ClaimsOfUserinfo    = "userinfo"
)

// TokenRequest describes a token, or a UserInfo response, to a hook before it is issued. It
// contains no secrets and no tokens. Hooks must not change its contents.
type TokenRequest struct {
	// Kind is one of the ClaimsOf… constants.
	Kind string
	// GrantType is the grant_type of the request: implicit at the authorization endpoint, ""
	// at UserInfo.
	GrantType string
	ClientID  string
	// Subject is the user's subject in the user database, which can differ from the sub that
	// the client sees. It is "" for a client's own token.
	Subject string
	Scope   oauth.Scope
	// Audience is the aud of an access token.
	Audience []string
	// AuthTime, ACR and AMR describe the user's sign-in. AuthTime is zero if there was none.
	AuthTime time.Time
	ACR      string
	AMR      []string
	// Claims are the claims that the token already has, without those of the protocol but with
	// act, the party that acts for the subject (RFC 8693, section 4.1).
	Claims oauth.Claims
}

var ruleHookAllows = rule{
	must:    "the operator's hooks allow the tokens",
	section: "RFC 6749, section 5.2", code: oauth.AccessDenied,
	says: "the tokens were refused",
	fix:  "check why the hook refuses",
}

// ruleHookResponds gives the client no details, because the operator's own code failed.
var ruleHookResponds = rule{
	must:    "the operator's code responds, and sets no claim that the protocol defines",
	section: "Valetkey", code: oauth.ServerError,
	says: "the request failed; the operator can look up the reference",
	fix:  "fix the hook or grant type that fails",
}

// hasHooks reports whether there are any hooks.
func (s *Server) hasHooks() bool { return s.config.Hooks.TokenClaims != nil || len(s.webhooks) > 0 }

// hookClaims calls the operator's hooks in order. It returns the claims to add to a token, or the
// refusal of a hook. A hook cannot change the claims of an earlier one.
func (c *call) hookClaims(ctx context.Context, r *TokenRequest) (oauth.Claims, error) {
	claims, err := c.callTokenClaims(ctx, r)
	for _, w := range c.s.webhooks {
		if err != nil {
			break
		}
		if !w.appliesTo(r) {
			continue
		}
		var more oauth.Claims
		more, err = c.callHook(ctx, w, r)
		claims = addClaims(more, claims)
	}
	if err != nil {
		return nil, c.endpointError(r.Kind, err)
	}
	_ = c.must(true, &ruleHookAllows)
	return claims, nil
}

// callTokenClaims calls the embedder's function.
func (c *call) callTokenClaims(ctx context.Context, r *TokenRequest) (oauth.Claims, error) {
	if c.s.config.Hooks.TokenClaims == nil {
		return nil, nil
	}
	claims, err := c.s.config.Hooks.TokenClaims(ctx, *r)
	if refusal := oauth.AsError(err); refusal != nil {
		return nil, c.refusedByHook(refusal)
	}
	if err == nil {
		err = checkClaims(claims)
	}
	if err != nil {
		return nil, c.because(&ruleHookResponds, fmt.Errorf("TokenClaims, %s: %w", r.Kind, err))
	}
	return claims, nil
}

func (c *call) refusedByHook(refusal *oauth.Error) error {
	c.climb(rung{rule: &ruleHookAllows, detail: clip(refusal.Error())})
	return refusal
}

// endpointError returns a hook's refusal with a code and a status that the endpoint can use.
func (c *call) endpointError(kind string, err error) error {
	e := *oauth.AsError(err)
	if c.endpoint.page && !slices.Contains(authorizationErrors(), e.Code) {
		e.Code = oauth.AccessDenied
	}
	if kind == ClaimsOfUserinfo && e.HTTPStatus() == http.StatusBadRequest {
		e.Status = http.StatusForbidden
	}
	return &e
}

// authorizationErrors returns the codes of RFC 6749, section 4.1.2.1, with which a hook can
// refuse tokens.
func authorizationErrors() []oauth.ErrorCode {
	return []oauth.ErrorCode{
		oauth.InvalidRequest, oauth.UnauthorizedClient, oauth.AccessDenied, oauth.InvalidScope, oauth.InvalidTarget,
		oauth.ServerError, oauth.TemporarilyUnavailable,
	}
}

// tokenRequest returns the description of a token for hooks.
func (c *call) tokenRequest(kind string, ent *entitlement, scope oauth.Scope, audience []string, claims oauth.Claims) *TokenRequest {
	a := &ent.authorization
	r := &TokenRequest{
		Kind: kind, GrantType: c.params.get("grant_type"), ClientID: c.client.ID, Subject: a.Subject, Scope: scope,
		Audience: audience, ACR: a.ACR, AMR: a.AMR, Claims: claims,
	}
	if c.endpoint.page {
		r.GrantType = oauth.GrantTypeImplicit
	}
	if a.AuthTime > 0 {
		r.AuthTime = time.Unix(a.AuthTime, 0)
	}
	return r
}

// hookAccessToken adds the claims of hooks to those of an access token. Hooks are called again
// at every refresh.
func (c *call) hookAccessToken(ctx context.Context, ent *entitlement, scope oauth.Scope, audience []string, claims oauth.Claims) (oauth.Claims, error) {
	if !c.s.hasHooks() {
		return claims, nil
	}
	more, err := c.hookClaims(ctx, c.tokenRequest(ClaimsOfAccessToken, ent, scope, audience, claims))
	return addClaims(more, claims), err
}

// hookIDToken adds the claims of hooks to those of an ID token.
func (c *call) hookIDToken(ctx context.Context, ent *entitlement, claims oauth.Claims) (oauth.Claims, error) {
	if !c.s.hasHooks() {
		return claims, nil
	}
	more, err := c.hookClaims(ctx, c.tokenRequest(ClaimsOfIDToken, ent, ent.scope, []string{c.client.ID}, claims))
	return addClaims(more, claims), err
}

// hookUserinfo adds the claims of hooks to those of a UserInfo response.
func (c *call) hookUserinfo(ctx context.Context, t *verifiedToken, scope oauth.Scope, claims oauth.Claims) (oauth.Claims, error) {
	if !c.s.hasHooks() {
		return claims, nil
	}
	r := &TokenRequest{
		Kind: ClaimsOfUserinfo, ClientID: c.client.ID, Subject: t.user, Scope: scope,
		// Other requests share the claims of the token.
		Audience: slices.Clone(t.claims.Audience), ACR: t.claims.ACR, AMR: slices.Clone(t.claims.AMR), Claims: claims,
	}
	if t.claims.AuthTime > 0 {
		r.AuthTime = time.Unix(t.claims.AuthTime, 0)
	}
	more, err := c.hookClaims(ctx, r)
	return addClaims(more, claims), err
}

// addClaims returns the existing claims and more. An existing claim is not replaced.
func addClaims(more, existing oauth.Claims) oauth.Claims {
	if len(more) == 0 {
		return existing
	}
	all := maps.Clone(more)
	maps.Copy(all, existing)
	return all
}

// GrantType is an extension grant (RFC 6749, section 4.5) that the embedder adds. The token
// endpoint does what all grants have in common: it authenticates the client, checks that the
// client is registered for the grant type, limits scope and resources to what is declared, and
// issues the tokens.
type GrantType struct {
	// Name is the grant_type: an absolute URI outside of the IETF's namespace
	// ("urn:ietf:params:oauth:…").
	Name string
	// Entitle returns what the client is entitled to. It must be safe for concurrent use. An
	// *oauth.Error refuses the request with that error. Any other error is logged, and the
	// client gets server_error. If two requests race, it may be called again for one of them.
	Entitle func(ctx context.Context, r *GrantRequest) (*Entitlement, error)
}

// GrantRequest is a token request with an extension grant.
type GrantRequest struct {
	// Client is authenticated, unless it is public. Entitle must not change it.
	Client record.Client
	// Now is the time of the request, and RemoteAddr the address of the client.
	Now        time.Time
	RemoteAddr netip.Addr
	call       *call
}

// Param returns a parameter of the request body, or "" if it was not sent. Requests with a
// repeated parameter are refused before Entitle is called.
func (r *GrantRequest) Param(name string) string { return r.call.params.get(name) }

// Claims returns all claims about a user, or storage.ErrNotFound if the user is gone or
// disabled.
func (r *GrantRequest) Claims(ctx context.Context, subject string) (oauth.Claims, error) {
	return r.call.s.config.Users.Claims(ctx, subject)
}

// FindSubject returns the subject of the user with an identifier of the format email or
// opaque, disabled or not; storage.ErrNotFound if there is none. The email address need not be
// verified: see the user's claim email_verified.
func (r *GrantRequest) FindSubject(ctx context.Context, id oauth.SubjectIdentifier) (string, error) {
	return r.call.s.config.Users.FindSubject(ctx, id)
}

// Entitlement is what an extension grant entitles a client to.
type Entitlement struct {
	// Subject is the user on whose behalf the client acts. The user must be active, and sees
	// the client on the account page. It is "" for a token of the client itself.
	Subject string
	// Scope bounds the scope of the tokens. The client gets the part that the request asks for
	// and that the client may have. With openid, the response has an ID token.
	Scope oauth.Scope
	// Resources are the APIs that the token may be for; nil means all that the client may name.
	Resources []string
	// Claims are added to every access token, also after a refresh. Claims that the protocol
	// defines are refused.
	Claims oauth.Claims
	// AuthTime, ACR and AMR say how the user signed in, if they did.
	AuthTime time.Time
	ACR      string
	AMR      []string
	// RefreshToken adds a refresh token if the client is registered for it. It needs a Subject.
	RefreshToken bool
	// Once identifies a grant that can be used once, such as a voucher: a second request with
	// the same value is refused. The value is stored until UsableUntil. After that, Entitle must
	// refuse it.
	Once        string
	UsableUntil time.Time
}

var (
	ruleGrantUnused = rule{
		must:    "the grant was not used before",
		section: "RFC 6749, section 5.2", code: oauth.InvalidGrant,
		says: "the grant was already used",
		fix:  "use each grant once",
	}
	ruleExtensionGrant = rule{
		must:    "the extension grant accepts the request",
		section: "RFC 6749, section 4.5",
		fix:     "see the documentation of the grant type",
	}
)

// check returns an error if the grant type is not valid.
func (g *GrantType) check() error {
	switch {
	case g.Entitle == nil:
		return fmt.Errorf("grant type %q has no Entitle", g.Name)
	case !IsExtensionGrant(g.Name):
		return fmt.Errorf("grant type %q: the name must be an absolute URI outside of the IETF's namespace (RFC 6749, section 4.5)", g.Name)
	}
	return nil
}

// IsExtensionGrant reports whether a name is valid for an extension grant.
func IsExtensionGrant(name string) bool {
	u, err := url.Parse(name)
	return err == nil && u.IsAbs() && len(name) <= 256 && !strings.HasPrefix(name, "urn:ietf:params:oauth:") &&
		!slices.ContainsFunc(grantTypes(), func(builtIn grantType) bool { return builtIn.name == name })
}

// newGrantTypes returns the built-in grant types and those of the embedder.
func newGrantTypes(extensions []GrantType) ([]grantType, error) {
	table := grantTypes()
	for i := range extensions {
		g := &extensions[i]
		if err := g.check(); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(table, func(other grantType) bool { return other.name == g.Name }) {
			return nil, fmt.Errorf("there are two grant types %q", g.Name)
		}
		table = append(table, grantType{name: g.Name, entitle: func(c *call) (*entitlement, error) { return c.grantExtension(g) }})
	}
	return table, nil
}

// grantExtension runs an extension grant, and limits its entitlement to what the client may
// have.
func (c *call) grantExtension(g *GrantType) (*entitlement, error) {
	request := &GrantRequest{Client: *c.client.Client, Now: c.now, RemoteAddr: c.s.remoteAddr(c.r), call: c}
	request.Client.Secrets = nil
	e, err := g.Entitle(c.r.Context(), request)
	if refusal := oauth.AsError(err); refusal != nil {
		c.climb(rung{rule: &ruleExtensionGrant, detail: clip(err.Error())})
		return nil, err
	}
	if err == nil && e == nil {
		err = errors.New("the function Entitle returned neither an entitlement nor an error")
	}
	if err == nil {
		err = checkClaims(e.Claims)
	}
	if err != nil {
		return nil, c.because(&ruleHookResponds, fmt.Errorf("grant type %s: %w", g.Name, err))
	}
	_ = c.must(true, &ruleExtensionGrant)
	ent := &entitlement{authorization: authorization{
		ClientID: c.client.ID, Subject: e.Subject, ACR: e.ACR, AMR: e.AMR, Extra: e.Claims,
	}}
	if !e.AuthTime.IsZero() {
		ent.authorization.AuthTime = e.AuthTime.Unix()
	}
	if ent.scope, err = c.narrowScope(e.Scope); err != nil {
		return nil, err
	}
	if ent.resources, err = c.narrowResources(e.Resources); err != nil {
		return nil, err
	}
	for _, resource := range ent.resources {
		if !c.client.mayUse(resource) {
			return nil, c.refuse(&ruleResourceKnown, resource)
		}
	}
	ent.authorization.Scope, ent.authorization.Resources = ent.scope, ent.resources
	if err := c.markUsed(ent, g, e); err != nil {
		return nil, err
	}
	if e.Subject == "" {
		if slices.ContainsFunc(ent.scope, aboutUser) {
			return nil, c.refuse(&ruleClientScope, "there is no subject; the scope is "+ent.scope.String())
		}
		return ent, nil
	}
	if err := c.checkUserActive(ent.authorization); err != nil {
		return nil, err
	}
	grant, err := c.recordGrant(e.Subject, ent.scope, ent.resources)
	if err != nil {
		return nil, err
	}
	ent.authorization.Grant, ent.authorization.Family = grant.ID, newFamily(c.now)
	ent.idToken = ent.scope.Has(oauth.ScopeOpenID)
	if e.RefreshToken && c.client.HasGrantType(oauth.GrantTypeRefreshToken) {
		ent.refreshToken, ent.storeRefresh = newSecret(prefixRefreshToken, c.now), true
	}
	return ent, nil
}

// markUsed refuses a grant that was used before. Otherwise it adds a ticket that is stored
// together with the tokens, and marks the grant as used.
func (c *call) markUsed(ent *entitlement, g *GrantType, e *Entitlement) error {
	if e.Once == "" {
		return nil
	}
	if !c.now.Before(e.UsableUntil) {
		return c.because(&ruleHookResponds, fmt.Errorf("grant type %s: Once is set, but UsableUntil is not in the future", g.Name))
	}
	key := ticketkind.GrantOnce.Hash(g.Name + "\n" + e.Once)
	_, err := c.s.config.Store.Get(c.r.Context(), c.now, key)
	if err == nil {
		return c.must(false, &ruleGrantUnused)
	}
	if !errors.Is(err, storage.ErrNotFound) {
		return fmt.Errorf("look up whether a grant was used: %w", err)
	}
	ent.put = append(ent.put, storage.Ticket{Key: key, Expires: e.UsableUntil})
	return c.must(true, &ruleGrantUnused)
}

// checkClaims refuses claims that the protocol defines, except for may_act: the operator's code
// knows who may act for a user, and the claim can only narrow what the rules of token_exchange
// allow.
func checkClaims(claims oauth.Claims) error {
	for name, value := range claims {
		if name == claimMayAct {
			if _, err := readActor(value); err != nil {
				return fmt.Errorf("claim %q: %w", name, err)
			}
			continue
		}
		if err := CheckAccessTokenClaim(name); err != nil {
			return fmt.Errorf("claim %q: %w", name, err)
		}
	}
	return nil
}

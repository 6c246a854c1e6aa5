package authserver

import (
	"context"
	"errors"
	"fmt"
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

// Param returns a parameter of the request body; "" if it was not sent. A request with a
// repeated parameter was refused before.
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
	// the client on the account page. "" gives the client a token of its own.
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
	// Once names what the grant uses up, such as a voucher: a second request with the same name
	// is refused. It is remembered until UsableUntil. From then on, Entitle must refuse it.
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

// check returns why a grant type cannot be served.
func (g *GrantType) check() error {
	switch {
	case g.Entitle == nil:
		return fmt.Errorf("grant type %q has no Entitle", g.Name)
	case !IsExtensionGrant(g.Name):
		return fmt.Errorf("grant type %q: the name must be an absolute URI outside of the IETF's namespace (RFC 6749, section 4.5)", g.Name)
	}
	return nil
}

// IsExtensionGrant reports whether an extension grant may have a name.
func IsExtensionGrant(name string) bool {
	u, err := url.Parse(name)
	return err == nil && u.IsAbs() && len(name) <= 256 && !strings.HasPrefix(name, "urn:ietf:params:oauth:") &&
		!slices.ContainsFunc(grantTypes(), func(builtIn grantType) bool { return builtIn.name == name })
}

// newGrantTypes returns the table of grant types with those of the embedder.
func newGrantTypes(own []GrantType) ([]grantType, error) {
	table := grantTypes()
	for i := range own {
		g := &own[i]
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
		err = errors.New("neither an entitlement nor an error")
	}
	if err == nil {
		err = checkClaims(e.Claims)
	}
	if err != nil {
		return nil, c.because(&ruleHookAnswers, fmt.Errorf("grant type %s: %w", g.Name, err))
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
	if err := c.useUp(ent, g, e); err != nil {
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

// useUp stores a mark together with the tokens, by which a second use is refused.
func (c *call) useUp(ent *entitlement, g *GrantType, e *Entitlement) error {
	if e.Once == "" {
		return nil
	}
	if !c.now.Before(e.UsableUntil) {
		return c.because(&ruleHookAnswers, fmt.Errorf("grant type %s: Once is set and UsableUntil is not in the future", g.Name))
	}
	key := ticketkind.GrantOnce.Hash(g.Name + "\n" + e.Once)
	_, err := c.s.config.Store.Get(c.r.Context(), c.now, key)
	if err == nil {
		return c.must(false, &ruleGrantUnused)
	}
	if !errors.Is(err, storage.ErrNotFound) {
		return fmt.Errorf("look up what a grant uses up: %w", err)
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

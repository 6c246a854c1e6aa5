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

// GrantType is an extension grant of somebody else's (RFC 6749, section 4.5), served beside
// ours. The token endpoint owns what all have in common: it authenticates the client, asks
// whether it is registered for the grant type, holds scope and resources to what is
// declared, and makes the tokens.
type GrantType struct {
	// Name is the grant_type: an absolute URI that is not one of the IETF's
	// ("urn:ietf:params:oauth:…").
	Name string
	// Exchange says what the client is entitled to. It is safe for concurrent use. An
	// *oauth.Error refuses the request with that; any other error is logged, and the client
	// sees server_error. Where two requests race it may be called again for one of them.
	Entitle func(ctx context.Context, r *GrantRequest) (*Entitlement, error)
}

// GrantRequest is a token request by a grant type of somebody else's.
type GrantRequest struct {
	// Client has proved who it is, unless it is public. What it holds must not be changed.
	Client record.Client
	// Now is the time of the request, RemoteAddr where it came from.
	Now        time.Time
	RemoteAddr netip.Addr
	call       *call
}

// Param returns a parameter of the request's body, "" if it was not sent. It was sent once.
func (r *GrantRequest) Param(name string) string { return r.call.params.get(name) }

// Claims returns all claims about a subject, and storage.ErrNotFound if there is no such
// person, or none who may act.
func (r *GrantRequest) Claims(ctx context.Context, subject string) (oauth.Claims, error) {
	return r.call.s.config.Users.Claims(ctx, subject)
}

// FindSubject returns the Subject of the person with an identifier of the format email or
// opaque, disabled or not; storage.ErrNotFound if there is none. That an e-mail address is
// theirs, they need not have proved: email_verified of their claims says so.
func (r *GrantRequest) FindSubject(ctx context.Context, id oauth.SubjectIdentifier) (string, error) {
	return r.call.s.config.Users.FindSubject(ctx, id)
}

// Entitlement is what a client gets for a grant.
type Entitlement struct {
	// Subject is the person in whose name the client acts, who must be there and active, and
	// who sees on their account page that it may; "" gives the client a token of its own.
	Subject string
	// Scope is the most that the client gets; of it, what the request asks for and what the
	// client may have at all. With openid in it comes an ID token.
	Scope oauth.Scope
	// Resources are the APIs for which the token may be; nil: those that the client may name.
	Resources []string
	// Claims are in every access token, also in refreshed ones, beside those of RFC 9068.
	// The protocol's own names are refused.
	Claims oauth.Claims
	// AuthTime, ACR and AMR say how the person proved who they are, if they did.
	AuthTime time.Time
	ACR      string
	AMR      []string
	// RefreshToken gives a client that is registered for it a refresh token too, which needs
	// a Subject.
	RefreshToken bool
	// Once names what the grant uses up, such as a voucher: a second request with the same
	// name is refused. Only UsableUntil is it remembered: from then on, Exchange refuses it.
	Once        string
	UsableUntil time.Time
}

var (
	ruleGrantUnused = rule{
		must:    "what the grant uses up was not used before",
		section: "RFC 6749, section 5.2", code: oauth.InvalidGrant,
		says: "the grant was already used",
		fix:  "use each grant once",
	}
	ruleOwnGrant = rule{
		must:    "the grant type's own rules hold",
		section: "RFC 6749, section 4.5",
		fix:     "see what the grant type asks for",
	}
)

// check reports why a grant type cannot be served.
func (g *GrantType) check() error {
	switch {
	case g.Entitle == nil:
		return fmt.Errorf("grant type %q has no Entitle", g.Name)
	case !IsExtensionGrant(g.Name):
		return fmt.Errorf("grant type %q: it is an absolute URI, and neither the IETF's nor one of ours (RFC 6749, section 4.5)", g.Name)
	}
	return nil
}

// IsExtensionGrant reports whether a name can be that of a grant type of somebody else's.
func IsExtensionGrant(name string) bool {
	u, err := url.Parse(name)
	return err == nil && u.IsAbs() && len(name) <= 256 && !strings.HasPrefix(name, "urn:ietf:params:oauth:") &&
		!slices.ContainsFunc(grantTypes(), func(ours grantType) bool { return ours.name == name })
}

// newGrantTypes returns our table with that of the embedder.
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

// grantExtension asks somebody else's grant type what the client may have, and holds that to
// what it may have at all.
func (c *call) grantExtension(g *GrantType) (*entitlement, error) {
	request := &GrantRequest{Client: *c.client.Client, Now: c.now, RemoteAddr: c.s.remoteAddr(c.r), call: c}
	request.Client.Secrets = nil
	e, err := g.Entitle(c.r.Context(), request)
	if refusal := oauth.AsError(err); refusal != nil {
		c.climb(rung{rule: &ruleOwnGrant, detail: clip(err.Error())})
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
	_ = c.must(true, &ruleOwnGrant)
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
		if slices.ContainsFunc(ent.scope, aboutPerson) {
			return nil, c.refuse(&ruleClientScope, "there is no subject; the scope is "+ent.scope.String())
		}
		return ent, nil
	}
	if err := c.checkPerson(ent.authorization); err != nil {
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

// useUp has the tokens stored together with a mark of what they cost.
func (c *call) useUp(ent *entitlement, g *GrantType, e *Entitlement) error {
	if e.Once == "" {
		return nil
	}
	if !c.now.Before(e.UsableUntil) {
		return c.because(&ruleHookAnswers, fmt.Errorf("grant type %s: Once without a time to come in UsableUntil", g.Name))
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

// checkClaims holds that none is the protocol's, but for may_act: whom a person lets act for
// them, the operator's code knows, and it can only narrow what the rules of token_exchange
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

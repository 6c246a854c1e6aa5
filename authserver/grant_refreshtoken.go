package authserver

import (
	"errors"
	"fmt"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

const invalidRefreshToken = "the refresh token is invalid, expired, revoked, already used, or was issued to another client"

var (
	ruleRefreshTokenSent = rule{
		must:    "the request has a refresh_token",
		section: "RFC 6749, section 6", code: oauth.InvalidRequest,
		says: "refresh_token is missing",
		fix:  "send the refresh token of the latest token response",
	}
	ruleRefreshTokenKnown = rule{
		must:    "the refresh token was issued by this server and has not expired or been revoked",
		section: "RFC 6749, section 6", code: oauth.InvalidGrant, says: invalidRefreshToken,
		fix: "have the user authorize the client again",
	}
	ruleRefreshTokenClient = rule{
		must:    "the refresh token was issued to this client",
		section: "RFC 6749, section 6", code: oauth.InvalidGrant, says: invalidRefreshToken,
		fix: "use a refresh token with the client that received it",
	}
	ruleRefreshTokenUnused = rule{
		must:    "the refresh token was not used before; a replay revokes its family",
		section: "RFC 9700, section 4.14.2", code: oauth.InvalidGrant, says: invalidRefreshToken,
		fix: "store the new refresh token of each response in one place; find out who still has the old one",
	}
	ruleScopeGranted = rule{
		must:    "scope does not exceed what was granted, and the client may still have it",
		section: "RFC 6749, section 6", code: oauth.InvalidScope,
		says: "scope exceeds what was granted",
		fix:  "request less, or have the user authorize the client again",
	}
	ruleOfflineAccessStill = rule{
		must:    "the client may still have offline_access",
		section: "OpenID Connect Core, section 11", code: oauth.InvalidGrant,
		says: "the client may no longer have offline_access",
		fix:  "the client's scope was reduced since",
	}
)

// grantRefreshToken rotates a refresh token (RFC 6749, section 6; RFC 9700, section
// 4.14.2).
func (c *call) grantRefreshToken() (*entitlement, error) {
	token := c.params.get("refresh_token")
	if err := c.must(token != "", &ruleRefreshTokenSent); err != nil {
		return nil, err
	}
	if c.client.reuses() && isSecret(prefixRefreshToken, token) {
		// The token is not spent, which would fail if it was revoked. So it is read from the store,
		// not from the cache.
		c.s.issued.drop(secretKey(ticketkind.RefreshToken, prefixRefreshToken, token))
	}
	ticket, a, err := c.ticket(ticketkind.RefreshToken, prefixRefreshToken, token, &ruleRefreshTokenKnown)
	if err != nil {
		return nil, err
	}
	if err := c.must(a.ClientID == c.client.ID, &ruleRefreshTokenClient); err != nil {
		return nil, err
	}
	// Before a replay is detected: a thief without the key must not be able to end the family.
	if err := c.checkRefreshTokenKeys(a.Confirmation); err != nil {
		return nil, err
	}
	ent := &entitlement{authorization: a}
	switch {
	case ticket.Spent.IsZero() && c.client.reuses():
		ent.reusedRefreshToken = ticket
	case ticket.Spent.IsZero():
		ent.spend, ent.storeRefresh = []storage.Key{ticket.Key}, true
		ent.refreshToken = c.s.successor(token, c.now)
	default:
		successor, expires, err := c.lostResponse(ticket, a, token)
		if err != nil {
			return nil, err
		}
		ent.refreshToken, ent.refreshTokenExpires = successor, expires
	}
	if c.familyEnds(a).Sub(c.now) < time.Second {
		return nil, c.refuse(&ruleRefreshTokenKnown, "the authorization began too long ago")
	}
	if a.Scope.Has(oauth.ScopeOfflineAccess) {
		if err := c.must(c.client.scope.Has(oauth.ScopeOfflineAccess), &ruleOfflineAccessStill); err != nil {
			return nil, err
		}
	}
	if err := c.checkUserActive(a); err != nil {
		return nil, err
	}
	if ent.scope, err = c.narrowScope(a.Scope); err != nil {
		return nil, err
	}
	ent.idToken = ent.scope.Has(oauth.ScopeOpenID)
	if ent.resources, err = c.narrowAudience(&a); err != nil {
		return nil, err
	}
	return ent, nil
}

// lostResponse decides on a refresh token that was used before. Within a short window, and while
// its successor is unused, the response may have been lost, and the client gets the same
// successor again, and when it expires. If the successor was used, two parties have different tokens of one
// authorization. One of them is a thief, so the family ends. It also ends after the window.
func (c *call) lostResponse(ticket storage.Ticket, a authorization, token string) (successor string, expires time.Time, err error) {
	if c.now.Sub(ticket.Spent) > c.refreshRetry() {
		// The window may have passed while the store was unavailable.
		if note, err := c.unansweredAttempt(ticket); err != nil {
			return "", expires, err
		} else if note == nil {
			return "", expires, c.replayed(a, &ruleRefreshTokenUnused)
		}
	}
	successor = c.s.successor(token, ticket.Spent)
	next, err := c.s.config.Store.Get(c.r.Context(), c.now, secretKey(ticketkind.RefreshToken, prefixRefreshToken, successor))
	if errors.Is(err, storage.ErrNotFound) {
		return "", expires, c.refuse(&ruleRefreshTokenKnown, "its successor has expired or was revoked")
	}
	if err != nil {
		return "", expires, fmt.Errorf("look up successor: %w", err)
	}
	if !next.Spent.IsZero() {
		return "", expires, c.replayed(a, &ruleRefreshTokenUnused)
	}
	return successor, next.Expires, nil
}

// narrowScope returns the requested part of a granted scope; all of it if the request has no scope.
// Scopes that the client may no longer have are left out.
func (c *call) narrowScope(granted oauth.Scope) (oauth.Scope, error) {
	granted = granted.Intersect(c.client.scope)
	requested, err := oauth.ParseScope(c.params.get("scope"))
	if err != nil {
		return nil, err
	}
	if requested == nil {
		return granted, nil
	}
	if !granted.Covers(requested) {
		return nil, c.refuse(&ruleScopeGranted, "granted: "+granted.String()+"; requested: "+requested.String())
	}
	return requested, nil
}

// narrowResources returns the authorized resources that the token is for; all of them if the
// request names none (RFC 8707, section 2.2).
func (c *call) narrowResources(authorized []string) ([]string, error) {
	requested, err := c.requestedResources()
	if err != nil || len(requested) == 0 {
		return authorized, err
	}
	for _, resource := range requested {
		if len(authorized) > 0 && !oauth.ContainsResource(authorized, resource) {
			return nil, c.refuse(&ruleResourceKnown, "not authorized: "+resource)
		}
	}
	return requested, nil
}

// Bounds on a client's refresh policy.
const (
	maxRefreshRetry   = 10 * time.Minute
	maxAuthorizations = 100
	// maxListed bounds how many authorizations endOldest reads.
	maxListed = 1000
)

func (c *clientCheck) tokens() {
	for _, member := range [...]struct {
		name     string
		lifetime record.Duration
	}{{"access_token_lifetime", c.AccessTokenLifetime}, {"id_token_lifetime", c.IDTokenLifetime}} {
		if err := record.CheckOwnLifetime(member.lifetime); err != nil {
			c.report(member.name, "%v", err)
		}
	}
	for _, member := range [...]struct {
		name     string
		lifetime record.Duration
	}{{"refresh_token_lifetime", c.RefreshTokenLifetime}, {"refresh_token_max_lifetime", c.RefreshTokenMaxLifetime}} {
		if member.lifetime != 0 && time.Duration(member.lifetime) < time.Minute {
			c.report(member.name, "%s is shorter than a minute", time.Duration(member.lifetime))
		}
	}
	if time.Duration(c.RefreshRetry) > maxRefreshRetry {
		c.report("refresh_retry", "%s is longer than %s", time.Duration(c.RefreshRetry), maxRefreshRetry)
	}
	if c.RefreshTokenReuse && c.Public() {
		c.report("refresh_token_reuse", "the refresh tokens of a public client are not bound to it, and always rotate (RFC 9700, section 4.14.2)")
	}
	if c.GlobalTokenRevocation && c.Public() {
		c.report("global_token_revocation", "it needs a client with credentials")
	}
	if c.FirstParty && (c.ApplicationType != oauth.ApplicationNative || !c.HasGrantType(oauth.GrantTypeAuthorizationCode)) {
		c.report("first_party", "only native applications with the grant type authorization_code may use it (draft-ietf-oauth-first-party-apps, section 9.8)")
	}
	if c.MaxAuthorizations < 0 || c.MaxAuthorizations > maxAuthorizations {
		c.report("max_authorizations", "it must be a number from 1 to %d", maxAuthorizations)
	}
	for i, name := range c.AccessTokenClaims {
		if err := CheckAccessTokenClaim(name); err != nil {
			c.report(fmt.Sprintf("access_token_claims[%d]", i), "%q: %v", name, err)
		}
	}
	for i, name := range c.IDTokenClaims {
		if err := checkClaim(name); err != nil {
			c.report(fmt.Sprintf("id_token_claims[%d]", i), "%q: %v", name, err)
		}
	}
}

// begins reports whether the refresh token is the first one of an authorization.
func (ent *entitlement) begins() bool {
	return ent.storeRefresh && (len(ent.spend) == 0 || ent.spend[0].Kind != ticketkind.RefreshToken)
}

// authorizationTickets returns the ticket that counts an authorization against max_authorizations;
// nil if the client has no such limit.
func (c *call) authorizationTickets(a authorization) []storage.Ticket {
	if c.client.MaxAuthorizations == 0 || a.Subject == "" {
		return nil
	}
	return []storage.Ticket{{
		Key: ticketkind.Authorization.Hash(a.Family), Grant: a.Grant, Family: authorizationsOf(a),
		Data: []byte(a.Family), Expires: c.now.Add(c.familyLifetime()),
	}}
}

// authorizationsOf is the family of the tickets that count a user's authorizations of a client.
func authorizationsOf(a authorization) string {
	return "authorizations " + a.Subject + " " + a.ClientID
}

// endOldest ends a user's oldest authorizations of the client until max_authorizations are left. The
// tokens are issued already, so an error is only logged; the next authorization tries again.
func (c *call) endOldest(a authorization) {
	if c.client.MaxAuthorizations == 0 || a.Subject == "" {
		return
	}
	ctx, store := c.r.Context(), c.s.config.Store
	// The authorization that expires last is the newest one.
	found, err := store.FindFamily(ctx, c.now, authorizationsOf(a), ticketkind.Authorization, maxListed)
	kept := 0
	for _, ticket := range found {
		family := string(ticket.Data)
		var live []storage.Ticket
		if live, err = store.FindFamily(ctx, c.now, family, ticketkind.RefreshToken, 1); err != nil {
			break
		}
		if len(live) > 0 && kept < c.client.MaxAuthorizations {
			kept++
			continue
		}
		if err = store.DeleteFamily(auditTokens(ctx, "token.revoked", a, "authorization beyond max_authorizations"), family); err != nil {
			break
		}
		if err = store.Delete(ctx, ticket.Key); err != nil {
			break
		}
	}
	if err != nil {
		c.s.log.Log(ctx, event.LevelOf(ctx, err), "oldest authorizations not ended", "client_id", c.client.ID, "sub", a.Subject, "error", err)
	}
}

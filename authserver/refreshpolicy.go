package authserver

import (
	"fmt"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// Bounds on a client's own refresh policy.
const (
	maxRefreshRetry   = 10 * time.Minute
	maxAuthorizations = 100
	// maxListed bounds how many authorizations are looked at.
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
		c.report("refresh_token_reuse", "the refresh tokens of a public client are bound to nothing, and rotate (RFC 9700, section 4.14.2)")
	}
	if c.GlobalTokenRevocation && c.Public() {
		c.report("global_token_revocation", "it needs a client with credentials")
	}
	if c.FirstParty && (c.ApplicationType != oauth.ApplicationNative || !c.HasGrantType(oauth.GrantTypeAuthorizationCode)) {
		c.report("first_party", "it is for native applications with the grant type authorization_code (draft-ietf-oauth-first-party-apps, section 9.8)")
	}
	if c.MaxAuthorizations < 0 || c.MaxAuthorizations > maxAuthorizations {
		c.report("max_authorizations", "it is a number from 1 to %d", maxAuthorizations)
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

// begins reports whether an exchange hands out the first refresh token of an authorization.
func (ent *entitlement) begins() bool {
	return ent.storeRefresh && (len(ent.spend) == 0 || ent.spend[0].Kind != ticketkind.RefreshToken)
}

// counted is the ticket by which a new authorization is found again when there are too many;
// nil if any number may last.
func (c *call) counted(a authorization) []storage.Ticket {
	if c.client.MaxAuthorizations == 0 || a.Subject == "" {
		return nil
	}
	return []storage.Ticket{{
		Key: ticketkind.Authorization.Hash(a.Family), Grant: a.Grant, Family: authorizationsOf(a),
		Data: []byte(a.Family), Expires: c.now.Add(c.familyLifetime()),
	}}
}

// authorizationsOf names all authorizations of a person to a client.
func authorizationsOf(a authorization) string {
	return "authorizations " + a.Subject + " " + a.ClientID
}

// endOldest ends the oldest authorizations of a person to the client, beside the newest ones
// that may last. The tokens are out already, so a failure is for the log; the next sign-in
// ends what this one left.
func (c *call) endOldest(a authorization) {
	if c.client.MaxAuthorizations == 0 || a.Subject == "" {
		return
	}
	ctx, store := c.r.Context(), c.s.config.Store
	// The one that ends last began last.
	found, err := store.FindFamily(ctx, c.now, authorizationsOf(a), ticketkind.Authorization, maxListed)
	lasting := 0
	for _, ticket := range found {
		family := string(ticket.Data)
		var live []storage.Ticket
		if live, err = store.FindFamily(ctx, c.now, family, ticketkind.RefreshToken, 1); err != nil {
			break
		}
		if len(live) > 0 && lasting < c.client.MaxAuthorizations {
			lasting++
			continue
		}
		if err = store.DeleteFamily(ctx, family); err != nil {
			break
		}
		if err = store.Delete(ctx, ticket.Key); err != nil {
			break
		}
	}
	if err != nil {
		c.s.log.ErrorContext(ctx, "end the oldest authorizations", "client_id", c.client.ID, "sub", a.Subject, "error", err)
	}
}

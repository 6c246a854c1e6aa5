package authserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
)

// CheckAccessTokenClaim reports why a person's claim cannot go into access tokens.
func CheckAccessTokenClaim(name string) error {
	if err := checkClaim(name); err != nil {
		return err
	}
	if name == claimStatus {
		return oauth.ErrReservedClaim
	}
	return nil
}

// claimStatus says where an access token's status is published (draft-ietf-oauth-status-list,
// section 6.1).
const claimStatus = "status"

// readStatus takes the claim status out of the others, if it is one of this server's.
func (a *accessTokenClaims) readStatus() error {
	if _, ok := a.Extra[claimStatus].(map[string]any); !ok {
		return nil
	}
	document, err := json.Marshal(a.Extra[claimStatus])
	if err != nil {
		return fmt.Errorf("read status: %w", err)
	}
	var status oauth.Status
	if json.Unmarshal(document, &status) != nil || status.StatusList == nil {
		return nil // another one, which an operator's own code has added
	}
	a.Status = &status
	delete(a.Extra, claimStatus)
	return nil
}

// accessTokenExtra returns an access token's claims beside those of RFC 9068, section 2.2:
// those of its authorization, and of the person those that the client or a resource asks
// for.
func (c *call) accessTokenExtra(ctx context.Context, catalogue *catalogue, ent *entitlement, scope oauth.Scope, audience []string) (oauth.Claims, error) {
	a := &ent.authorization
	names := slices.Clone(c.client.AccessTokenClaims)
	for _, identifier := range audience {
		if r := catalogue.resource(identifier); r != nil {
			names = append(names, r.AccessTokenClaims...)
		}
	}
	if len(names) == 0 || a.Subject == "" {
		return a.Extra, nil
	}
	// Where the token goes, an access token for somebody else's claims has no business.
	claims, err := c.userClaims(ctx, a.Subject, claimsWanted{names: names, granted: scope, resources: audience, byBrowser: true})
	if errors.Is(err, storage.ErrNotFound) {
		return a.Extra, nil // whom another vouches for
	}
	if err != nil {
		return nil, fmt.Errorf("read claims for the access token: %w", err)
	}
	maps.Copy(claims, a.Extra)
	return claims, nil
}

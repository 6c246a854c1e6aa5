package authserver

import (
	"errors"
	"fmt"
	"slices"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
)

// claimGroups is the claim with the groups of a user.
const claimGroups = "groups"

var (
	ruleAllowedGroups = rule{
		must:    "the user is in one of the groups that may use the client",
		section: "Valetkey", code: PageNotAllowed,
		says: "the user may not use the client",
		fix:  "add the user to one of the client's allowed_groups, or change allowed_groups",
	}
	// ruleAllowedGroupsSilent is the same without a page, for prompt=none and the token endpoint.
	ruleAllowedGroupsSilent = rule{
		must:    "the user is in one of the groups that may use the client",
		section: "RFC 6749, section 4.1.2.1", code: oauth.AccessDenied,
		says: "the user may not use the client",
		fix:  "add the user to one of the client's allowed_groups, or change allowed_groups",
	}
)

// checkGroups enforces allowed_groups of the client. It runs for every authorization, and for every
// token that follows from one: a user who leaves the groups gets no more tokens.
func (c *call) checkGroups(subject string, silent bool) error {
	allowed := c.client.AllowedGroups
	if allowed == nil {
		return nil
	}
	r := &ruleAllowedGroups
	if silent {
		r = &ruleAllowedGroupsSilent
	}
	claims, err := c.s.config.Users.Claims(c.r.Context(), subject)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return fmt.Errorf("read the groups of a user: %w", err)
	}
	member := func(group string) bool { return slices.Contains(allowed, group) }
	switch groups := claims[claimGroups].(type) {
	case []string:
		if slices.ContainsFunc(groups, member) {
			return c.must(true, r)
		}
	case []any:
		for _, group := range groups {
			if name, ok := group.(string); ok && member(name) {
				return c.must(true, r)
			}
		}
	}
	return c.must(false, r)
}

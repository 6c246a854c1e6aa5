package ui

import (
	"net/http"
	"slices"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
)

// need is what a sign-in must reach.
type need struct {
	class identity.Class
	// since is the time before which proofs do not count; zero if all count.
	since time.Time
}

// atLeast raises the class.
func (n *need) atLeast(class identity.Class) {
	if class.Includes(n.class) {
		n.class = class
	}
}

// needFor returns what a user must prove: for an interaction, to confirm a change of the account, or to
// sign in to the account page.
func (s *session) needFor(r *http.Request, in *authserver.Interaction, now time.Time, user *identity.User) need {
	n := need{class: identity.ClassOneFactor}
	if user.NeedsSecondFactor() {
		n.class = identity.ClassTwoFactors
	}
	policy, reachable := s.config.Accounts.Policy(), user.Reachable()
	switch {
	case in != nil && in.Client != nil:
		n.atLeast(policy.Required(user, in.Client.ID, in.Scope))
		n.atLeast(chosenClass(in, reachable))
		n.since = in.ProvedSince
	default:
		n.atLeast(policy.Required(user, "", nil))
	}
	if in == nil && returnPath(r) != "" {
		n.atLeast(user.RecentProofClass())
		n.since = identity.RecentProofSince(now)
	}
	// A new sign-in does not replace a session by a weaker one, as far as the user can help it.
	if s.who != nil && s.who.User.ID == user.ID && !n.since.IsZero() && returnPath(r) == "" {
		if had := identity.Class(s.who.ACR); reachable.Includes(had) {
			n.atLeast(had)
		}
	}
	return n
}

// chosenClass returns the class that the client asks for: the weakest essential one, whether or not the
// user can reach it, or else the first of acr_values that the user can reach.
func chosenClass(in *authserver.Interaction, reachable identity.Class) identity.Class {
	for _, class := range identity.Classes { // weakest first
		if slices.Contains(in.EssentialACRValues, string(class)) {
			return class
		}
	}
	for _, value := range in.ACRValues {
		if class := identity.Class(value); slices.Contains(identity.Classes, class) && reachable.Includes(class) {
			return class
		}
	}
	return ""
}

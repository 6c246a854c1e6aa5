package identity

import (
	"slices"
	"time"
)

// Policy says what is sufficient to sign in. The zero value requires one factor, and two of users who
// have set up a second one.
type Policy struct {
	// Rules say who needs more, and for what. All that match apply.
	Rules []PolicyRule
	// NoEnrolment is set if users who need a second factor and have none cannot set it up when they sign
	// in.
	NoEnrolment bool
	// RememberSecondFactor is how long users may choose not to be asked for the second factor again on a
	// device; zero means that they cannot.
	RememberSecondFactor time.Duration
}

// PolicyRule requires a class. It matches if each list that is not empty has a match.
type PolicyRule struct {
	Class   Class
	Clients []string // client_ids
	Scopes  []string // of the request, of which one is enough
	Groups  []string // of the user, of which one is enough
}

// Required returns the class that a user needs for a client and a scope. For the account page, client is
// "" and scope is nil.
func (p *Policy) Required(user *User, client string, scope []string) Class {
	required := ClassOneFactor
	for _, rule := range p.Rules {
		if matches(rule.Clients, client) && matches(rule.Scopes, scope...) && matches(rule.Groups, user.Groups()...) {
			required = stronger(required, rule.Class)
		}
	}
	return required
}

func matches(list []string, values ...string) bool {
	return len(list) == 0 || slices.ContainsFunc(values, func(value string) bool { return slices.Contains(list, value) })
}

// Policy returns the policy of these accounts.
func (a *Accounts) Policy() *Policy { return &a.policy }

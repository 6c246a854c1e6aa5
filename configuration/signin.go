package configuration

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage/record"
)

// SignIn says what is sufficient to sign in.
type SignIn struct {
	// Rules require a class of users, clients and scopes. All that match apply.
	Rules []SignInRule `json:"rules,omitempty"`
	// Enrolment is whether users who need a second factor and have none can set it up when they sign in:
	// EnrolmentAtSignIn, the default, or EnrolmentOff.
	Enrolment string `json:"enrolment,omitempty"`
	// RememberSecondFactor is how long users may choose not to be asked for the second factor again on a
	// device. Zero, the default: they cannot.
	RememberSecondFactor record.Duration `json:"remember_second_factor,omitzero"`
}

// SignInRule requires an authentication context class. A list that is empty matches everything.
type SignInRule struct {
	ACR     string   `json:"acr"`
	Clients []string `json:"clients,omitempty"` // client_ids
	Scopes  []string `json:"scopes,omitempty"`
	Groups  []string `json:"groups,omitempty"` // values of the user's claim groups
}

// The values of SignIn.Enrolment.
const (
	EnrolmentAtSignIn = "at_sign_in"
	EnrolmentOff      = "off"
)

// maxRememberSecondFactor limits how long a second factor is remembered.
const maxRememberSecondFactor = 90 * 24 * time.Hour

func (s *SignIn) validate(report reporter) {
	oneOf(report, "sign_in.enrolment", s.Enrolment, EnrolmentAtSignIn, EnrolmentOff)
	if d := time.Duration(s.RememberSecondFactor); d < 0 || d > maxRememberSecondFactor {
		report("sign_in.remember_second_factor", "must be between 0s and 2160h (90 days)")
	}
	for i, rule := range s.Rules {
		if !slices.Contains(identity.Classes, identity.Class(rule.ACR)) {
			var names []string
			for _, class := range identity.Classes {
				names = append(names, string(class))
			}
			report(fmt.Sprintf("sign_in.rules[%d].acr", i), "%q is not a class: use one of %s, in quotation marks", rule.ACR, strings.Join(names, ", "))
		}
	}
}

// Policy returns the policy for package identity.
func (s *SignIn) Policy() identity.Policy {
	policy := identity.Policy{NoEnrolment: s.Enrolment == EnrolmentOff, RememberSecondFactor: time.Duration(s.RememberSecondFactor)}
	for _, rule := range s.Rules {
		policy.Rules = append(policy.Rules, identity.PolicyRule{Class: identity.Class(rule.ACR), Clients: rule.Clients, Scopes: rule.Scopes, Groups: rule.Groups})
	}
	return policy
}

// Package admission decides, by an operator's rule, whether a user of another provider or of a
// directory may sign in, whether the user gets an account, and what the account has from there.
//
// A rule is an expression. Its value is
//
//   - true: the user may sign in, and gets an account if there is none,
//   - false: the user is refused,
//   - a string: the user is refused, and the string is the reason that the page shows,
//   - an object with any of the members refuse (a reason), create (false creates no account),
//     username, groups and claims.
package admission

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/expression"
	"github.com/valetkey/valetkey/oauth"
)

// Rule is a compiled rule. The zero value, without an expression, admits users who have an account
// and creates none. It is safe for concurrent use.
type Rule struct{ program *expression.Program }

// variables are the variables of a rule.
type variables struct {
	// Claims are what the party says about the user.
	Claims map[string]any `expr:"claims"`
	// Email is the address of the user, if the party has verified it and is trusted to
	// (trust_email).
	Email string `expr:"email"`
	// EmailDomain is its domain, in lower case.
	EmailDomain string `expr:"email_domain"`
	// NewUser is true if the user has no account yet.
	NewUser  bool   `expr:"new_user"`
	Provider string `expr:"provider"`
}

const (
	maxResultBytes = 32 << 10
	maxReasonRunes = 300
	maxUsername    = 254
)

// Compile compiles a rule. "" is the zero Rule.
func Compile(text string) (Rule, error) {
	if strings.TrimSpace(text) == "" {
		return Rule{}, nil
	}
	program, err := expression.Compile(text, variables{})
	return Rule{program}, err
}

// Decide returns the decision about a user. An error means that the rule could not be evaluated or
// has a value of another kind; the user is then not admitted.
func (r Rule) Decide(user *identity.ExternalUser, newUser bool) (identity.Admission, error) {
	admission := identity.Admission{Claims: ProfileClaims(user.Claims)}
	if r.program == nil {
		return admission, nil
	}
	v := variables{Claims: user.Claims, NewUser: newUser, Provider: user.Provider}
	if v.Claims == nil {
		v.Claims = map[string]any{}
	}
	if user.EmailTrusted {
		v.Email = user.Email
		v.EmailDomain = strings.ToLower(v.Email[strings.LastIndexByte(v.Email, '@')+1:])
	}
	value, err := r.program.Evaluate(&v, maxResultBytes)
	if err != nil {
		return identity.Admission{}, fmt.Errorf("evaluate the rule of %s: %w", user.Provider, err)
	}
	switch value := value.(type) {
	case bool:
		admission.Create, admission.Refused = value, !value
		return admission, nil
	case string:
		return identity.Admission{Refused: true, Reason: clean(value)}, nil
	case map[string]any:
		if admission, err = read(value, admission.Claims); err != nil {
			return identity.Admission{}, fmt.Errorf("the rule of %s: %w", user.Provider, err)
		}
		return admission, nil
	}
	return identity.Admission{}, fmt.Errorf("the rule of %s returns %T: it must be true, false, a string or an object", user.Provider, value)
}

// read reads the object that a rule returns. claims are those of an object without claims.
func read(object map[string]any, claims map[string]any) (identity.Admission, error) {
	admission := identity.Admission{Create: true, Claims: claims}
	for name, value := range object {
		var ok bool
		switch name {
		case "refuse":
			var reason string
			switch value := value.(type) {
			case nil:
				ok = true
			case bool:
				admission.Refused, ok = value, true
			case string:
				reason, ok = value, true
				admission.Refused = true
			}
			admission.Reason = clean(reason)
		case "create":
			admission.Create, ok = value.(bool)
		case "username":
			admission.Username, ok = value.(string)
			if value == nil {
				ok = true
			}
			if len(admission.Username) > maxUsername {
				admission.Username = ""
			}
		case "groups":
			groups, err := readGroups(value)
			if err != nil {
				return admission, err
			}
			admission.Groups, ok = groups, true
		case "claims":
			mapped, err := readClaims(value)
			if err != nil {
				return admission, err
			}
			admission.Claims, ok = mapped, true
		default:
			return admission, fmt.Errorf("the member %q is not known: use refuse, create, username, groups and claims", name)
		}
		if !ok {
			return admission, fmt.Errorf("the member %q has a value of type %T", name, value)
		}
	}
	if admission.Refused {
		return identity.Admission{Refused: true, Reason: admission.Reason}, nil
	}
	return admission, nil
}

// readGroups reads a list of names; nil is an empty list. Elements that are nil are left out, so that
// a condition for each group can be written as a list.
func readGroups(value any) ([]string, error) {
	var groups []string
	switch value := value.(type) {
	case nil:
	case string:
		groups = []string{value}
	case []string:
		groups = slices.Clone(value)
	case []any:
		for _, element := range value {
			switch element := element.(type) {
			case nil:
			case string:
				groups = append(groups, element)
			default:
				return nil, fmt.Errorf("groups contains a value of type %T: use strings", element)
			}
		}
	default:
		return nil, fmt.Errorf("groups has a value of type %T: use a list of strings", value)
	}
	slices.Sort(groups)
	return slices.Compact(groups), nil
}

// readClaims reads mapped claims. A claim that is nil is left out.
func readClaims(value any) (map[string]any, error) {
	if value == nil {
		return nil, nil
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("claims has a value of type %T: use an object", value)
	}
	// The values get the types of package json, like all claims of users.
	encoded, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("encode claims: %w", err)
	}
	mapped := map[string]any{}
	if err := json.Unmarshal(encoded, &mapped); err != nil {
		return nil, fmt.Errorf("read claims: %w", err)
	}
	for name, value := range mapped {
		if value == nil {
			delete(mapped, name)
			continue
		}
		if err := CheckClaim(name); err != nil {
			return nil, err
		}
	}
	return mapped, nil
}

// ownClaims are claims that an account gets in another way: an address counts only once it is
// verified, and groups have a member of their own.
var ownClaims = []string{"email", "email_verified", "phone_number_verified", "preferred_username", "updated_at", "groups"}

// CheckClaim returns an error if a rule cannot set a claim.
func CheckClaim(name string) error {
	plain, _, _ := strings.Cut(name, "#")
	if slices.Contains(ownClaims, plain) || slices.Contains(oauth.ProtocolClaims, plain) || oauth.CheckClaimName(plain) != nil {
		return fmt.Errorf("claims: a rule cannot set %q", name)
	}
	return nil
}

// profile are the claims that an account has from a party whose rule names none.
var profile = []string{"name", "given_name", "family_name", "middle_name", "nickname", "profile", "picture", "website", "gender", "birthdate", "zoneinfo", "locale"}

// maxProfileClaimBytes limits each of them.
const maxProfileClaimBytes = 2 << 10

// ProfileClaims returns the claims about the profile that are strings of a reasonable length.
func ProfileClaims(claims map[string]any) map[string]any {
	kept := map[string]any{}
	for _, name := range profile {
		if text, ok := claims[name].(string); ok && text != "" && len(text) <= maxProfileClaimBytes {
			kept[name] = text
		}
	}
	return kept
}

// clean makes a reason safe to show: one line of at most maxReasonRunes visible characters.
func clean(reason string) string {
	reason = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r) || unicode.In(r, unicode.C):
			return -1
		}
		return r
	}, reason)
	runes := []rune(strings.Join(strings.Fields(reason), " "))
	if len(runes) > maxReasonRunes {
		runes = append(runes[:maxReasonRunes-1], '…')
	}
	return string(runes)
}

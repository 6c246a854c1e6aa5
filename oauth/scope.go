package oauth

import (
	"slices"
	"strings"
)

// MaxScopes is how many scopes one request may contain.
const MaxScopes = 64

// Scopes that OpenID Connect Core defines (sections 3.1.2.1, 5.4 and 11).
const (
	ScopeOpenID        = "openid"
	ScopeProfile       = "profile"
	ScopeEmail         = "email"
	ScopeAddress       = "address"
	ScopePhone         = "phone"
	ScopeOfflineAccess = "offline_access"
)

// Scope is a set of scope values, in the order of their first occurrence.
type Scope []string

// ParseScope parses a space-separated list (RFC 6749, section 3.3). Duplicates are removed.
func ParseScope(s string) (Scope, error) {
	if s == "" {
		return nil, nil
	}
	scope := make(Scope, 0, min(strings.Count(s, " ")+1, MaxScopes))
	for value := range strings.SplitSeq(s, " ") {
		if value == "" {
			continue
		}
		if !validScopeValue(value) {
			return nil, NewError(InvalidScope, "a scope contains a character that RFC 6749, section 3.3 does not allow")
		}
		if slices.Contains(scope, value) {
			continue
		}
		if len(scope) == MaxScopes {
			return nil, NewError(InvalidScope, "more than 64 scopes")
		}
		scope = append(scope, value)
	}
	if len(scope) == 0 {
		return nil, nil
	}
	return scope, nil
}

// validScopeValue implements scope-token = 1*( %x21 / %x23-5B / %x5D-7E ).
func validScopeValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x21 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return s != ""
}

// String joins the values with single spaces.
func (s Scope) String() string { return strings.Join(s, " ") }

// Has reports whether value is in s.
func (s Scope) Has(value string) bool { return slices.Contains(s, value) }

// Covers reports whether every value of other is in s.
func (s Scope) Covers(other Scope) bool {
	for _, value := range other {
		if !s.Has(value) {
			return false
		}
	}
	return true
}

// Intersect returns the values of s that are also in other, in the order of s.
func (s Scope) Intersect(other Scope) Scope {
	return s.filter(other.Has)
}

// Without returns the values of s that are not in other.
func (s Scope) Without(other Scope) Scope {
	return s.filter(func(value string) bool { return !other.Has(value) })
}

// filter returns the values to keep; nil if there are none. Its result shares nothing with s.
func (s Scope) filter(keep func(string) bool) (kept Scope) {
	for i, value := range s {
		if !keep(value) {
			continue
		}
		if kept == nil {
			kept = make(Scope, 0, len(s)-i)
		}
		kept = append(kept, value)
	}
	return kept
}

// Union returns s, followed by the values of other that are not in s.
func (s Scope) Union(other Scope) Scope {
	return append(slices.Clip(s), other.Without(s)...)
}

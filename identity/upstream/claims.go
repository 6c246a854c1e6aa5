package upstream

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/valetkey/valetkey/internal/expression"
	"github.com/valetkey/valetkey/oauth"
)

// mapping computes claims from what a provider says. A claim whose source has no value is left out.
type mapping []source

// source is where a claim comes from: a JSON pointer or an expression.
type source struct {
	claim   string
	pointer string
	program *expression.Program
}

// variables are the variables of an expression.
type variables struct {
	Claims map[string]any `expr:"claims"`
}

const maxClaimBytes = 8 << 10

// newMapping compiles a mapping. A source that begins with a slash is a JSON pointer.
func newMapping(claims map[string]string) (mapping, error) {
	m := make(mapping, 0, len(claims))
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		// email_verified is what trust_email is about.
		if err := oauth.CheckClaimName(name); err != nil && name != "email" && name != "email_verified" {
			return nil, fmt.Errorf("claims: %q: %w", name, err)
		}
		s := source{claim: name, pointer: claims[name]}
		if !strings.HasPrefix(s.pointer, "/") {
			var err error
			if s.program, err = expression.Compile(s.pointer, variables{}); err != nil {
				return nil, fmt.Errorf("claims: %q: %w", name, err)
			}
		}
		m = append(m, s)
	}
	return m, nil
}

// apply adds the mapped claims to those of the provider.
func (m mapping) apply(claims map[string]any) error {
	mapped := map[string]any{}
	for _, s := range m {
		if s.program == nil {
			if value, ok := pointed(claims, s.pointer); ok {
				mapped[s.claim] = value
			}
			continue
		}
		value, err := s.program.Evaluate(&variables{claims}, maxClaimBytes)
		if err != nil {
			return fmt.Errorf("claim %q: %w", s.claim, err)
		}
		if value != nil {
			mapped[s.claim] = value
		}
	}
	for _, s := range m { // a claim of the provider that happens to have the name does not count
		delete(claims, s.claim)
	}
	maps.Copy(claims, mapped)
	return nil
}

// pointed returns the value that a JSON pointer refers to (RFC 6901, section 4).
func pointed(value any, pointer string) (any, bool) {
	for _, token := range strings.Split(strings.TrimPrefix(pointer, "/"), "/") {
		token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
		switch container := value.(type) {
		case map[string]any:
			var ok bool
			if value, ok = container[token]; !ok {
				return nil, false
			}
		case []any:
			i, err := strconv.Atoi(token)
			if err != nil || i < 0 || i >= len(container) || strconv.Itoa(i) != token {
				return nil, false
			}
			value = container[i]
		default:
			return nil, false
		}
	}
	return value, value != nil
}

// subjectOf returns the permanent identifier at a name or JSON pointer: a string, or an integer as
// it is written. Fractions and exponents are refused, because two users could get the same number.
func subjectOf(claims map[string]any, pointer string) (string, bool) {
	if !strings.HasPrefix(pointer, "/") {
		pointer = "/" + strings.ReplaceAll(strings.ReplaceAll(pointer, "~", "~0"), "/", "~1")
	}
	value, _ := pointed(claims, pointer)
	var subject string
	switch value := value.(type) {
	case string:
		subject = value
	case json.Number:
		if subject = value.String(); strings.Trim(subject, "0123456789") != "" || subject == "0" {
			return "", false
		}
	}
	return subject, subject != "" && len(subject) <= 255
}

// decode decodes JSON about a user, with numbers as they are written.
func decode(document []byte) (map[string]any, error) {
	decoder := json.NewDecoder(strings.NewReader(string(document)))
	decoder.UseNumber()
	var claims map[string]any
	if err := decoder.Decode(&claims); err != nil {
		return nil, fmt.Errorf("read the claims: %w", err)
	}
	if claims == nil {
		return nil, fmt.Errorf("read the claims: they are null")
	}
	return claims, nil
}

// plainNumbers replaces json.Number by float64 or text, so that expressions can compare numbers.
func plainNumbers(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for name, member := range value {
			value[name] = plainNumbers(member)
		}
	case []any:
		for i := range value {
			value[i] = plainNumbers(value[i])
		}
	case json.Number:
		if f, err := value.Float64(); err == nil {
			return f
		}
		return value.String()
	}
	return value
}

// verified reports whether a claim such as email_verified is true. Apple sends it as a string.
func verified(value any) bool { return value == true || value == "true" }

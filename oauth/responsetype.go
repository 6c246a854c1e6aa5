package oauth

import (
	"slices"
	"strings"
)

// ResponseType is a response_type value: what the authorization endpoint returns (OAuth
// 2.0 Multiple Response Type Encoding Practices, section 3).
type ResponseType struct {
	Code, IDToken, Token bool
}

// ResponseTypes returns the registered response types except none, as they are registered.
func ResponseTypes() []string {
	return []string{"code", "id_token", "id_token token", "code id_token", "code token", "code id_token token", "token"}
}

// ParseResponseType parses a response_type value. The order of its words does not matter
// (RFC 6749, section 3.1.1). It reports false for a value that is not in ResponseTypes.
func ParseResponseType(s string) (ResponseType, bool) {
	var t ResponseType
	for word := range strings.SplitSeq(s, " ") {
		known := t
		switch word {
		case "code":
			t.Code = true
		case "id_token":
			t.IDToken = true
		case "token":
			t.Token = true
		}
		if t == known { // an unknown word, or one that is repeated
			return ResponseType{}, false
		}
	}
	return t, true
}

// String returns the registered spelling.
func (t ResponseType) String() string {
	var words []string
	if t.Code {
		words = append(words, "code")
	}
	if t.IDToken {
		words = append(words, "id_token")
	}
	if t.Token {
		words = append(words, "token")
	}
	return strings.Join(words, " ")
}

// FrontChannel reports whether the authorization response itself contains a token.
func (t ResponseType) FrontChannel() bool { return t.IDToken || t.Token }

// HasResponseType reports whether the client may use a response type.
func (m *ClientMetadata) HasResponseType(t ResponseType) bool {
	return slices.ContainsFunc(m.ResponseTypes, func(registered string) bool {
		known, ok := ParseResponseType(registered)
		return ok && known == t
	})
}

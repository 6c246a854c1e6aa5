package oauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
)

// Claims are the claims about a subject by their registered names (OpenID Connect
// Core, section 5.1), as JSON values.
type Claims map[string]any

// EncodeWith returns a JSON object with the members of v, a struct that encodes to at least
// one member, and the given claims. A member of v wins over a claim of the same name.
func EncodeWith(v any, claims Claims) ([]byte, error) {
	object, err := json.Marshal(v)
	if err != nil || len(claims) == 0 {
		return object, err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(object, &members); err != nil {
		return nil, err
	}
	more := maps.Clone(claims)
	for name := range members {
		delete(more, name)
	}
	if len(more) == 0 {
		return object, nil
	}
	rest, err := json.Marshal(more)
	if err != nil {
		return nil, err
	}
	return append(append(object[:len(object)-1], ','), rest[1:]...), nil
}

// ScopeClaims lists the claims that each standard scope requests (OpenID Connect Core,
// section 5.4).
var ScopeClaims = map[string][]string{
	ScopeProfile: {
		"name", "family_name", "given_name", "middle_name", "nickname", "preferred_username",
		"profile", "picture", "website", "gender", "birthdate", "zoneinfo", "locale", "updated_at",
	},
	ScopeEmail:   {"email", "email_verified"},
	ScopeAddress: {"address"},
	ScopePhone:   {"phone_number", "phone_number_verified"},
}

// ProtocolClaims are the claims that the protocol itself sets. No user attribute, mapping or
// extension may set them.
var ProtocolClaims = []string{
	"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "auth_time", "nonce", "acr", "amr", "azp",
	"at_hash", "c_hash", "s_hash", "sid", "cnf", "authorization_details", "act", "may_act", "scope", "client_id", "events",
	"token_use", "active", "token_type", "authorization_details", "_claim_names", "_claim_sources",
}

// ClaimsRequest is the claims parameter (OpenID Connect Core, section 5.5).
type ClaimsRequest struct {
	Userinfo map[string]*ClaimRequest `json:"userinfo,omitempty"`
	IDToken  map[string]*ClaimRequest `json:"id_token,omitempty"`
}

// ClaimRequest is the request for one claim; nil requests it as voluntary, with any value.
type ClaimRequest struct {
	Essential bool              `json:"essential,omitempty"`
	Value     json.RawMessage   `json:"value,omitempty"`
	Values    []json.RawMessage `json:"values,omitempty"`
}

const (
	maxClaimsRequestBytes = 8 << 10
	maxRequestedClaims    = 100
)

// ParseClaimsRequest parses the claims parameter. Members other than userinfo and
// id_token, and unknown members of a claim, are ignored, as section 5.5 requires.
func ParseClaimsRequest(s string) (*ClaimsRequest, error) {
	if len(s) > maxClaimsRequestBytes {
		return nil, NewError(InvalidRequest, "the claims parameter must not be longer than 8192 bytes")
	}
	if !balancedWithin([]byte(s), 8) {
		return nil, NewError(InvalidRequest, "the claims parameter is nested too deeply")
	}
	var c ClaimsRequest
	d := json.NewDecoder(bytes.NewReader([]byte(s)))
	if err := d.Decode(&c); err != nil {
		return nil, NewError(InvalidRequest, "the claims parameter must be a JSON object as in OpenID Connect Core, section 5.5").WithCause(err)
	}
	if d.More() {
		return nil, NewError(InvalidRequest, "the claims parameter has trailing data after its JSON object")
	}
	if len(c.Userinfo)+len(c.IDToken) > maxRequestedClaims {
		return nil, NewError(InvalidRequest, "the claims parameter must not request more than 100 claims")
	}
	return &c, nil
}

// Accepts reports whether value is one of the requested values, or no value is requested.
func (r *ClaimRequest) Accepts(value any) bool {
	if r == nil || (r.Value == nil && r.Values == nil) {
		return true
	}
	have, err := json.Marshal(value)
	if err != nil {
		return false
	}
	same := func(want json.RawMessage) bool {
		var compact bytes.Buffer
		return json.Compact(&compact, want) == nil && bytes.Equal(compact.Bytes(), have)
	}
	return r.Value != nil && same(r.Value) || slices.ContainsFunc(r.Values, same)
}

// Strings returns the requested values that are strings, value before values.
func (r *ClaimRequest) Strings() []string {
	if r == nil {
		return nil
	}
	var names []string
	for _, raw := range append([]json.RawMessage{r.Value}, r.Values...) {
		var s string
		if raw != nil && json.Unmarshal(raw, &s) == nil {
			names = append(names, s)
		}
	}
	return names
}

// balancedWithin reports whether no array or object of b is nested deeper than depth.
func balancedWithin(b []byte, depth int) bool {
	open, inString := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if open++; open > depth {
				return false
			}
		case c == '}' || c == ']':
			open--
		}
	}
	return true
}

// ErrReservedClaim is returned for the name of a claim that the protocol sets.
var ErrReservedClaim = errors.New("the claim is set by the protocol and cannot be mapped")

// CheckClaimName returns an error if name must not be used for a user attribute or mapping.
func CheckClaimName(name string) error {
	if name == "" || len(name) > 128 {
		return errors.New("a claim name must have 1 to 128 characters")
	}
	if slices.Contains(ProtocolClaims, name) {
		return ErrReservedClaim
	}
	return nil
}

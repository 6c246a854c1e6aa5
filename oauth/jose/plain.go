package jose

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"time"
)

// Most headers, claims and keys are small objects of strings and whole numbers, in plain characters
// and without spaces. They are read here without reflection and without a map. Whatever is different,
// valid or not, is left to the strict decoder, which therefore decides about every error.

// plainKind is the kind of a value that is read here.
type plainKind int

const (
	plainText    plainKind = iota // text is the string
	plainNumber                   // text is the number
	plainObject                   // text is the object
	plainList                     // text is the list of strings
	plainBoolean                  // text is true or false
)

// plainMember is a member of an object.
type plainMember struct {
	name, text string
	kind       plainKind
}

// Objects with more members are not read here, so that looking for duplicates stays cheap.
const (
	maxPlainMembers = 24
	maxPlainNested  = 12
)

// readPlain appends the members of an object to members, which has the capacity for all of them. ok is
// false if there are more, or if anything is not plain.
func readPlain(document string, members []plainMember) (_ []plainMember, ok bool) {
	r := plainReader{rest: document}
	members, ok = r.object(members, true)
	return members, ok && r.rest == ""
}

type plainReader struct{ rest string }

func (r *plainReader) skip(c byte) bool {
	if r.rest == "" || r.rest[0] != c {
		return false
	}
	r.rest = r.rest[1:]
	return true
}

// object reads an object without duplicate members. Only if nested is set may its members be objects.
func (r *plainReader) object(members []plainMember, nested bool) (_ []plainMember, ok bool) {
	if !r.skip('{') {
		return nil, false
	}
	if r.skip('}') {
		return members, true
	}
	for {
		m := plainMember{}
		if m.name, ok = r.text(); !ok || len(members) == cap(members) || !r.skip(':') {
			return nil, false
		}
		for i := range members {
			if members[i].name == m.name {
				return nil, false
			}
		}
		if m.text, m.kind, ok = r.value(nested); !ok {
			return nil, false
		}
		members = append(members, m)
		if r.skip('}') {
			return members, true
		}
		if !r.skip(',') {
			return nil, false
		}
	}
}

func (r *plainReader) value(nested bool) (text string, kind plainKind, ok bool) {
	if r.rest == "" {
		return "", 0, false
	}
	start := r.rest
	switch r.rest[0] {
	case '"':
		text, ok = r.text()
		return text, plainText, ok
	case '{':
		if !nested {
			return "", 0, false
		}
		var space [maxPlainNested]plainMember
		_, ok = r.object(space[:0], false)
		kind = plainObject
	case '[':
		ok = r.list(func(string) {})
		kind = plainList
	case 't':
		ok = r.word("true")
		kind = plainBoolean
	case 'f':
		ok = r.word("false")
		kind = plainBoolean
	default:
		_, ok = r.number()
		kind = plainNumber
	}
	return start[:len(start)-len(r.rest)], kind, ok
}

// text reads a string of printable ASCII characters without escapes.
func (r *plainReader) text() (string, bool) {
	if !r.skip('"') {
		return "", false
	}
	for i := 0; i < len(r.rest); i++ {
		switch c := r.rest[i]; {
		case c == '"':
			text := r.rest[:i]
			r.rest = r.rest[i+1:]
			return text, true
		case c < ' ' || c > '~' || c == '\\':
			return "", false
		}
	}
	return "", false
}

// list reads an array of strings.
func (r *plainReader) list(each func(string)) bool {
	if !r.skip('[') {
		return false
	}
	if r.skip(']') {
		return true
	}
	for {
		text, ok := r.text()
		if !ok {
			return false
		}
		each(text)
		if r.skip(']') {
			return true
		}
		if !r.skip(',') {
			return false
		}
	}
}

func (r *plainReader) word(want string) bool {
	if len(r.rest) < len(want) || r.rest[:len(want)] != want {
		return false
	}
	r.rest = r.rest[len(want):]
	return true
}

// number reads a whole number of at most 15 digits, which a float64 represents exactly.
func (r *plainReader) number() (n int64, ok bool) {
	digits := 0
	for ; digits < len(r.rest) && r.rest[digits] >= '0' && r.rest[digits] <= '9'; digits++ {
		if digits == 15 {
			return 0, false
		}
		n = 10*n + int64(r.rest[digits]-'0')
	}
	if digits == 0 || digits > 1 && r.rest[0] == '0' {
		return 0, false
	}
	r.rest = r.rest[digits:]
	return n, true
}

// plainHeader reads a header, and the object of its member jwk, "" if there is none.
func plainHeader(raw []byte) (h Header, jwk string, ok bool) {
	var space [maxPlainMembers]plainMember
	members, ok := readPlain(string(raw), space[:0])
	if !ok {
		return h, "", false
	}
	for i := range members {
		switch m := &members[i]; m.name {
		case "crit", "b64":
			return h, "", false
		case "alg":
			h.Algorithm, ok = Algorithm(m.text), m.kind == plainText && len(m.text) <= maxAlgorithmBytes
		case "kid":
			h.KeyID, ok = m.text, m.kind == plainText && len(m.text) <= maxKeyIDBytes
		case "typ":
			h.Type, ok = m.text, m.kind == plainText && len(m.text) <= maxTypeBytes
		case "jwk":
			jwk, ok = m.text, m.kind == plainObject
		}
		if !ok {
			return h, "", false
		}
	}
	return h, jwk, h.Algorithm != ""
}

// textMembers is a destination of ParseClaims that is filled without reflection.
type textMembers interface{ TextMember(name string) *string }

// plainClaims reads claims, and into if it is nil or has TextMember.
func plainClaims(payload []byte, into any) (claims Claims, ok bool) {
	target, filled := into.(textMembers)
	if into != nil && !filled {
		return claims, false
	}
	var space [maxPlainMembers]plainMember
	members, ok := readPlain(string(payload), space[:0])
	if !ok {
		return claims, false
	}
	for i := range members {
		switch m := &members[i]; m.name {
		case "iss":
			claims.Issuer, ok = m.text, m.kind == plainText
		case "sub":
			claims.Subject, ok = m.text, m.kind == plainText
		case "jti":
			claims.ID, ok = m.text, m.kind == plainText
		case "exp":
			claims.Expires, ok = m.time()
		case "nbf":
			claims.NotBefore, ok = m.time()
		case "iat":
			claims.IssuedAt, ok = m.time()
		case "aud":
			ok = m.audience(&claims)
		}
		if !ok || filled && members[i].kind != plainText && target.TextMember(members[i].name) != nil {
			return Claims{}, false
		}
	}
	for i := range members {
		if !filled {
			break
		}
		if text := target.TextMember(members[i].name); text != nil {
			*text = members[i].text
		}
	}
	return claims, true
}

func (m *plainMember) time() (time.Time, bool) {
	r := plainReader{rest: m.text}
	seconds, ok := r.number()
	if m.kind != plainNumber || !ok || seconds > maxNumericDate {
		return time.Time{}, false
	}
	return time.Unix(seconds, 0), true
}

func (m *plainMember) audience(claims *Claims) bool {
	switch m.kind {
	case plainText:
		claims.Audience = []string{m.text}
		return true
	case plainList:
		claims.AudienceIsArray = true
		r := plainReader{rest: m.text}
		return r.list(func(member string) { claims.Audience = append(claims.Audience, member) })
	}
	return false
}

// plainKey reads a public key on P-256, the usual key of a proof. Its members are those of RFC 7518,
// section 6.2.1, and perhaps kid, alg and use.
func plainKey(jwk string) (key JWK, ok bool) {
	var space [8]plainMember
	members, ok := readPlain(jwk, space[:0])
	if !ok {
		return key, false
	}
	var kty, crv, x, y string
	for i := range members {
		m := &members[i]
		if m.kind != plainText {
			return key, false
		}
		switch m.name {
		case "kty":
			kty = m.text
		case "crv":
			crv = m.text
		case "x":
			x = m.text
		case "y":
			y = m.text
		case "kid":
			key.kid = m.text
		case "alg":
			if key.alg = Algorithm(m.text); key.alg != ES256 {
				return JWK{}, false
			}
		case "use":
			if key.use = m.text; key.use != useSignature {
				return JWK{}, false
			}
		default:
			return JWK{}, false
		}
	}
	const coordinate, encoded = 32, 43
	if kty != "EC" || crv != "P-256" || len(x) != encoded || len(y) != encoded {
		return JWK{}, false
	}
	point := [1 + 2*coordinate]byte{4} // uncompressed (SEC 1, section 2.3.3)
	if n, err := strictBase64.Decode(point[1:1+coordinate], []byte(x)); err != nil || n != coordinate {
		return JWK{}, false
	}
	if n, err := strictBase64.Decode(point[1+coordinate:], []byte(y)); err != nil || n != coordinate {
		return JWK{}, false
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point[:]) // fails if it is not on the curve
	if err != nil {
		return JWK{}, false
	}
	key.key = public
	return key, true
}

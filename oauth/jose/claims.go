package jose

import (
	"errors"
	"fmt"
	"time"

	strictjson "github.com/go-jose/go-jose/v4/json"
)

// Claims are the registered claims of RFC 7519, section 4.1. Absent claims are zero.
type Claims struct {
	Issuer          string
	Subject         string
	ID              string
	Audience        []string
	AudienceIsArray bool
	Expires         time.Time
	NotBefore       time.Time
	IssuedAt        time.Time
}

const (
	// maxDepth limits the nesting of JSON in tokens and keys.
	maxDepth = 16
	// maxNumericDate is the end of the year 9999.
	maxNumericDate = 253402300799
)

// ParseJSON decodes a document from an untrusted source as strictly as ParseClaims: member
// names are case-sensitive, duplicate names are an error, and size and depth are limited.
func ParseJSON(document []byte, into any) (err error) {
	defer recovered(&err)
	if len(document) > maxKeySetBytes || !shallow(document, maxDepth) {
		return ErrMalformed
	}
	if err := strictjson.Unmarshal(document, into); err != nil {
		return errors.New("jose: the document is not valid JSON, has duplicate members, or has members of the wrong type")
	}
	return nil
}

// ParseClaims decodes the payload of a JWT strictly: member names are case-sensitive,
// duplicate names are an error, and times must be JSON numbers. If into is not nil, the
// whole payload is decoded into it in the same way.
//
// If all members of into are strings, it can have a method TextMember(name string) *string that returns
// its member with that name, or nil. Usual payloads are then decoded without reflection.
func ParseClaims(payload []byte, into any) (claims Claims, err error) {
	return ParseClaimsUpTo(maxTokenBytes, payload, into)
}

// ParseClaimsUpTo is ParseClaims with another limit on the size of the payload, for tokens
// that were verified with Expected.MaxBytes.
func ParseClaimsUpTo(maxBytes int, payload []byte, into any) (Claims, error) {
	if len(payload) > maxBytes {
		return Claims{}, ErrMalformed
	}
	if claims, ok := plainClaims(payload, into); ok {
		return claims, nil
	}
	return parseClaims(payload, into)
}

func parseClaims(payload []byte, into any) (claims Claims, err error) {
	defer recovered(&err)
	if !shallow(payload, maxDepth) {
		return claims, ErrMalformed
	}
	var all map[string]any
	if err := strictjson.Unmarshal(payload, &all); err != nil || all == nil {
		return claims, errors.New("jose: the payload is not a JSON object, or has duplicate members")
	}
	for name, target := range map[string]*string{"iss": &claims.Issuer, "sub": &claims.Subject, "jti": &claims.ID} {
		if err := stringClaim(all, name, target); err != nil {
			return claims, err
		}
	}
	for name, target := range map[string]*time.Time{"exp": &claims.Expires, "nbf": &claims.NotBefore, "iat": &claims.IssuedAt} {
		if err := timeClaim(all, name, target); err != nil {
			return claims, err
		}
	}
	if err := claims.audience(all); err != nil {
		return claims, err
	}
	if into != nil {
		if err := strictjson.Unmarshal(payload, into); err != nil {
			return claims, errors.New("jose: a claim has the wrong type")
		}
	}
	return claims, nil
}

func stringClaim(all map[string]any, name string, target *string) error {
	value, ok := all[name]
	if !ok {
		return nil
	}
	s, ok := value.(string)
	if !ok {
		return fmt.Errorf("jose: %s must be a string", name)
	}
	*target = s
	return nil
}

func timeClaim(all map[string]any, name string, target *time.Time) error {
	value, ok := all[name]
	if !ok {
		return nil
	}
	seconds, ok := value.(float64)
	if !ok || seconds < 0 || seconds > maxNumericDate {
		return fmt.Errorf("jose: %s must be a number of seconds since 1970", name)
	}
	*target = time.Unix(int64(seconds), int64((seconds-float64(int64(seconds)))*1e9))
	return nil
}

func (c *Claims) audience(all map[string]any) error {
	switch value := all["aud"].(type) {
	case nil:
		if _, ok := all["aud"]; ok {
			return errors.New("jose: aud must not be null")
		}
	case string:
		c.Audience = []string{value}
	case []any:
		c.AudienceIsArray = true
		for _, member := range value {
			s, ok := member.(string)
			if !ok {
				return errors.New("jose: aud must contain only strings")
			}
			c.Audience = append(c.Audience, s)
		}
	default:
		return errors.New("jose: aud must be a string or an array of strings")
	}
	return nil
}

// shallow reports whether no array or object of b is nested deeper than depth. It runs
// before recursive parsers do.
func shallow(b []byte, depth int) bool {
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

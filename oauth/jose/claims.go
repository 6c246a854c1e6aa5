package jose

import (
	"errors"
	"fmt"
	"time"

	strictjson "github.com/go-jose/go-jose/v4/json"
)

// Claims are the registered claims of RFC 7519, section 4.1; zero where absent.
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
	// maxDepth bounds the nesting of JSON in tokens and keys.
	maxDepth = 16
	// maxNumericDate is the end of the year 9999.
	maxNumericDate = 253402300799
)

// ParseJSON decodes a stranger's document with the strictness of ParseClaims: member names
// are compared with their case, a name may occur once at each level, and size and depth
// are bounded.
func ParseJSON(document []byte, into any) (err error) {
	defer recovered(&err)
	if len(document) > maxKeySetBytes || !shallow(document, maxDepth) {
		return ErrMalformed
	}
	if err := strictjson.Unmarshal(document, into); err != nil {
		return errors.New("jose: the document is not the JSON that is expected, with each member once")
	}
	return nil
}

// ParseClaims reads a JWT's payload strictly: member names are compared with their case,
// a name may occur once at each level, times are JSON numbers. into, unless nil, receives
// the whole payload, decoded with the same strictness.
func ParseClaims(payload []byte, into any) (claims Claims, err error) {
	return ParseClaimsUpTo(maxTokenBytes, payload, into)
}

// ParseClaimsUpTo is ParseClaims for the payload of a token with a MaxBytes of its own.
func ParseClaimsUpTo(maxBytes int, payload []byte, into any) (claims Claims, err error) {
	defer recovered(&err)
	if len(payload) > maxBytes || !shallow(payload, maxDepth) {
		return claims, ErrMalformed
	}
	var all map[string]any
	if err := strictjson.Unmarshal(payload, &all); err != nil || all == nil {
		return claims, errors.New("jose: the payload is not a JSON object with each member once")
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
			return claims, errors.New("jose: a claim is not of its type")
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
		return fmt.Errorf("jose: %s is not a string", name)
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
		return fmt.Errorf("jose: %s is not a number of seconds since 1970", name)
	}
	*target = time.Unix(int64(seconds), int64((seconds-float64(int64(seconds)))*1e9))
	return nil
}

func (c *Claims) audience(all map[string]any) error {
	switch value := all["aud"].(type) {
	case nil:
		if _, ok := all["aud"]; ok {
			return errors.New("jose: aud is null")
		}
	case string:
		c.Audience = []string{value}
	case []any:
		c.AudienceIsArray = true
		for _, member := range value {
			s, ok := member.(string)
			if !ok {
				return errors.New("jose: aud holds something that is not a string")
			}
			c.Audience = append(c.Audience, s)
		}
	default:
		return errors.New("jose: aud is neither a string nor an array of strings")
	}
	return nil
}

// shallow reports whether no array or object of b is nested deeper than depth. It runs
// before a parser recurses.
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

package oauth

import "strings"

// Challenge is one challenge of a WWW-Authenticate field (RFC 9110, section 11.6.1),
// with the parameters that RFC 6750, section 3, RFC 9470 and RFC 9728 define.
type Challenge struct {
	Scheme string // "Bearer", "DPoP" or "Basic"
	Params []ChallengeParam
}

// ChallengeParam is one auth-param.
type ChallengeParam struct{ Name, Value string }

// NewChallenge returns a challenge with the pairs in order; pairs whose value is
// empty are left out.
func NewChallenge(scheme string, pairs ...string) Challenge {
	c := Challenge{Scheme: scheme}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			c.Params = append(c.Params, ChallengeParam{pairs[i], pairs[i+1]})
		}
	}
	return c
}

// Param returns the value of the named parameter, or "".
func (c Challenge) Param(name string) string {
	for _, p := range c.Params {
		if strings.EqualFold(p.Name, name) {
			return p.Value
		}
	}
	return ""
}

// String returns the field value, every parameter as a quoted string.
func (c Challenge) String() string {
	var b strings.Builder
	b.WriteString(c.Scheme)
	for i, p := range c.Params {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte(' ')
		b.WriteString(p.Name)
		b.WriteString(`="`)
		for _, r := range p.Value {
			switch {
			case r == '"' || r == '\\':
				b.WriteByte('\\')
				b.WriteRune(r)
			case r >= 0x20 && r <= 0x7e:
				b.WriteRune(r)
			default:
				b.WriteByte('?')
			}
		}
		b.WriteByte('"')
	}
	return b.String()
}

// ParseChallenges parses the challenges of one WWW-Authenticate field. It stops at the
// first malformed part and returns the challenges before it.
func ParseChallenges(field string) []Challenge {
	var challenges []Challenge
	p := challengeParser{s: field}
	for {
		p.skip(" \t,")
		name := p.token()
		if name == "" {
			return challenges
		}
		p.skip(" \t")
		if len(challenges) > 0 && p.peek() == '=' && p.isParam() {
			p.i++
			p.skip(" \t")
			value, ok := p.value()
			if !ok {
				return challenges
			}
			last := &challenges[len(challenges)-1]
			last.Params = append(last.Params, ChallengeParam{name, value})
			continue
		}
		if p.peek() == '=' {
			return challenges
		}
		challenges = append(challenges, Challenge{Scheme: name})
	}
}

type challengeParser struct {
	s string
	i int
}

func (p *challengeParser) peek() byte {
	if p.i < len(p.s) {
		return p.s[p.i]
	}
	return 0
}

func (p *challengeParser) skip(chars string) {
	for p.i < len(p.s) && strings.IndexByte(chars, p.s[p.i]) >= 0 {
		p.i++
	}
}

func (p *challengeParser) token() string {
	start := p.i
	for p.i < len(p.s) && isTokenChar(p.s[p.i]) {
		p.i++
	}
	return p.s[start:p.i]
}

// isParam distinguishes name="value" from the padding of a token68.
func (p *challengeParser) isParam() bool {
	rest := strings.TrimLeft(p.s[p.i+1:], " \t")
	return rest != "" && rest[0] != ',' && rest[0] != '='
}

func (p *challengeParser) value() (string, bool) {
	if p.peek() != '"' {
		v := p.token()
		return v, v != ""
	}
	p.i++
	var b strings.Builder
	for p.i < len(p.s) {
		c := p.s[p.i]
		p.i++
		switch c {
		case '"':
			return b.String(), true
		case '\\':
			if p.i == len(p.s) {
				return "", false
			}
			b.WriteByte(p.s[p.i])
			p.i++
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}

func isTokenChar(c byte) bool {
	return unreserved(c) || strings.IndexByte("!#$%&'*+^`|", c) >= 0
}

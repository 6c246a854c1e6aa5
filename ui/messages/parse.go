package messages

import (
	"errors"
	"fmt"
	"strings"
)

// A message is a list of parts.
type part struct {
	text   string            // as it is
	arg    string            // the name of an argument, also of a plural
	plural map[string][]part // by category, or "=" and a number
	tag    string            // the name of a tag around inner
	inner  []part
	count  bool // the number of the plural, #
}

// maxDepth limits how deep plurals and tags are nested.
const maxDepth = 4

// parser reads a message of the format of ICU, without quotes, select and formats.
type parser struct {
	rest  string
	depth int
}

func parse(message string) ([]part, error) {
	if strings.ContainsRune(message, '\'') {
		return nil, errors.New("use ’ instead of '")
	}
	p := parser{rest: message}
	parts, err := p.parts("", false)
	if err == nil && p.rest != "" {
		err = fmt.Errorf("unexpected %q", p.rest)
	}
	return parts, err
}

// parts reads up to a closing brace, the closing tag of tag, or the end.
func (p *parser) parts(tag string, plural bool) ([]part, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, errors.New("nested too deep")
	}
	defer func() { p.depth-- }()
	special := "{}<"
	if plural {
		special += "#"
	}
	var parts []part
	for p.rest != "" {
		i := strings.IndexAny(p.rest, special)
		if i < 0 {
			i = len(p.rest)
		}
		if i > 0 {
			parts = append(parts, part{text: p.rest[:i]})
			p.rest = p.rest[i:]
			continue
		}
		switch p.rest[0] {
		case '}':
			return parts, nil
		case '#':
			parts = append(parts, part{count: true})
			p.rest = p.rest[1:]
		case '<':
			name, rest, ok := strings.Cut(p.rest[1:], ">")
			if !ok || strings.TrimPrefix(name, "/") == "" {
				return nil, errors.New("a tag has no end")
			}
			if strings.HasPrefix(name, "/") {
				return parts, nil
			}
			p.rest = rest
			inner, err := p.parts(name, plural)
			if err != nil {
				return nil, err
			}
			if p.rest, ok = strings.CutPrefix(p.rest, "</"+name+">"); !ok {
				return nil, fmt.Errorf("<%s> is not closed", name)
			}
			parts = append(parts, part{tag: name, inner: inner})
		case '{':
			argument, err := p.argument()
			if err != nil {
				return nil, err
			}
			parts = append(parts, argument)
		}
	}
	if tag != "" {
		return nil, fmt.Errorf("<%s> is not closed", tag)
	}
	return parts, nil
}

func (p *parser) argument() (part, error) {
	end := strings.IndexAny(p.rest, ",}")
	if end < 0 {
		return part{}, errors.New("a brace is not closed")
	}
	a := part{arg: strings.TrimSpace(p.rest[1:end])}
	if a.arg == "" || strings.ContainsAny(a.arg, "{< ") {
		return part{}, fmt.Errorf("%q is not the name of an argument", a.arg)
	}
	if p.rest[end] == '}' {
		p.rest = p.rest[end+1:]
		return a, nil
	}
	rest, ok := strings.CutPrefix(strings.TrimSpace(p.rest[end+1:]), "plural,")
	if !ok {
		return part{}, fmt.Errorf("{%s} has a format other than plural", a.arg)
	}
	a.plural = map[string][]part{}
	for p.rest = strings.TrimSpace(rest); ; p.rest = strings.TrimSpace(p.rest) {
		if p.rest, ok = strings.CutPrefix(p.rest, "}"); ok {
			break
		}
		form, rest, ok := strings.Cut(p.rest, "{")
		if !ok {
			return part{}, fmt.Errorf("the plural of {%s} is not closed", a.arg)
		}
		p.rest = rest
		inner, err := p.parts("", true)
		if err != nil {
			return part{}, err
		}
		if p.rest, ok = strings.CutPrefix(p.rest, "}"); !ok {
			return part{}, fmt.Errorf("a form of {%s} is not closed", a.arg)
		}
		a.plural[strings.TrimSpace(form)] = inner
	}
	if _, ok := a.plural["other"]; !ok {
		return part{}, fmt.Errorf("the plural of {%s} has no form other", a.arg)
	}
	return a, nil
}

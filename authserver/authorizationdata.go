package authserver

import "strings"

// decodePlain decodes an authorization that has only members of simple types, in plain characters, as
// most have. For any other it returns false, and encoding/json decodes it. That takes several
// times as long.
func decodePlain(data string) (a authorization, ok bool) {
	r := plainReader{rest: data}
	if !r.skip('{') {
		return a, false
	}
	for !r.failed {
		name := r.text()
		if len(name) != 1 || !r.skip(':') {
			return a, false
		}
		switch name[0] {
		case 'c':
			a.ClientID = r.text()
		case 's':
			a.Subject = r.text()
		case 'g':
			a.Grant = r.text()
		case 'f':
			a.Family = r.text()
		case 'o':
			a.Scope = r.list()
		case 'r':
			a.Resources = r.list()
		case 'u':
			a.Audience = r.list()
		case 'i':
			a.Session = r.text()
		case 't':
			a.AuthTime = r.number()
		case 'a':
			a.ACR = r.text()
		case 'm':
			a.AMR = r.list()
		case 'b':
			a.Started = r.number()
		case 'n':
			a.Issued = r.number()
		default:
			return a, false
		}
		if r.skip('}') {
			return a, !r.failed && r.rest == ""
		}
		if !r.skip(',') {
			return a, false
		}
	}
	return a, false
}

// plainReader reads JSON without spaces and escapes. failed is set on any other input.
type plainReader struct {
	rest   string
	failed bool
}

func (r *plainReader) skip(c byte) bool {
	if r.rest == "" || r.rest[0] != c {
		return false
	}
	r.rest = r.rest[1:]
	return true
}

func (r *plainReader) text() string {
	if r.skip('"') {
		for i := 0; i < len(r.rest); i++ {
			switch c := r.rest[i]; {
			case c == '"':
				text := r.rest[:i]
				r.rest = r.rest[i+1:]
				return text
			case c < ' ' || c > '~' || c == '\\':
				r.failed = true
				return ""
			}
		}
	}
	r.failed = true
	return ""
}

func (r *plainReader) list() []string {
	if !r.skip('[') {
		r.failed = true
		return nil
	}
	if r.skip(']') {
		return []string{}
	}
	end := strings.IndexByte(r.rest, ']')
	list := make([]string, 0, strings.Count(r.rest[:max(end, 0)], ",")+1)
	for !r.failed {
		list = append(list, r.text())
		if r.skip(']') {
			break
		}
		r.failed = r.failed || !r.skip(',')
	}
	return list
}

// number reads a number of at most 18 digits.
func (r *plainReader) number() (n int64) {
	digits := 0
	for digits < len(r.rest) && r.rest[digits] >= '0' && r.rest[digits] <= '9' {
		n = 10*n + int64(r.rest[digits]-'0')
		if digits++; digits > 18 {
			break
		}
	}
	if digits == 0 || digits > 18 || digits > 1 && r.rest[0] == '0' {
		r.failed = true
		return 0
	}
	r.rest = r.rest[digits:]
	return n
}

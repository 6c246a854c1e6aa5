// Package plainjson reads JSON that encoding/json has written, if it has only simple members, several
// times as fast as encoding/json. The caller falls back to encoding/json for everything else.
package plainjson

import "strings"

// Reader reads JSON without spaces and escapes.
type Reader struct {
	Rest   string // what was not read yet
	Failed bool   // the input was not what a method reads
}

// Skip reads a character, and returns false if the next one is another.
func (r *Reader) Skip(c byte) bool {
	if r.Rest == "" || r.Rest[0] != c {
		return false
	}
	r.Rest = r.Rest[1:]
	return true
}

// Text reads a string of printable ASCII characters.
func (r *Reader) Text() string {
	if r.Skip('"') {
		for i := 0; i < len(r.Rest); i++ {
			switch c := r.Rest[i]; {
			case c == '"':
				text := r.Rest[:i]
				r.Rest = r.Rest[i+1:]
				return text
			case c < ' ' || c > '~' || c == '\\':
				r.Failed = true
				return ""
			}
		}
	}
	r.Failed = true
	return ""
}

// List reads an array of what Text reads.
func (r *Reader) List() []string {
	if !r.Skip('[') {
		r.Failed = true
		return nil
	}
	if r.Skip(']') {
		return []string{}
	}
	end := strings.IndexByte(r.Rest, ']')
	list := make([]string, 0, strings.Count(r.Rest[:max(end, 0)], ",")+1)
	for !r.Failed {
		list = append(list, r.Text())
		if r.Skip(']') {
			break
		}
		r.Failed = r.Failed || !r.Skip(',')
	}
	return list
}

// Number reads a number of at most 18 digits.
func (r *Reader) Number() (n int64) {
	digits := 0
	for digits < len(r.Rest) && r.Rest[digits] >= '0' && r.Rest[digits] <= '9' {
		n = 10*n + int64(r.Rest[digits]-'0')
		if digits++; digits > 18 {
			break
		}
	}
	if digits == 0 || digits > 18 || digits > 1 && r.Rest[0] == '0' {
		r.Failed = true
		return 0
	}
	r.Rest = r.Rest[digits:]
	return n
}

package oauth

import (
	"slices"
	"strings"
)

// SameResource reports whether two resource indicators (RFC 8707, section 2) identify the
// same resource. The case of scheme and host, the scheme's default port, and an empty path
// instead of "/" make no difference, because URL libraries and browsers write them
// differently (RFC 3986, sections 6.2.2.1 and 6.2.3). Nothing else is normalized: case and a
// trailing slash make paths different.
func SameResource(a, b string) bool {
	return a == b || normalResource(a) == normalResource(b)
}

// ContainsResource reports whether a list contains a resource, compared by SameResource.
func ContainsResource(list []string, resource string) bool {
	return slices.Contains(list, resource) || slices.ContainsFunc(list, func(one string) bool { return SameResource(one, resource) })
}

// normalized is an identifier in parts, so that two can be compared without allocations. The parts of
// different identifiers never make the same string.
type normalized struct {
	kind                     kindOfIdentifier
	scheme, user, host, path string // path of an http or https URL without the first slash
}

type kindOfIdentifier int

const (
	noURI kindOfIdentifier = iota
	uri
	uriWithAuthority
)

func normalResource(identifier string) normalized {
	scheme, rest, ok := strings.Cut(identifier, ":")
	if !ok {
		return normalized{kind: noURI, path: identifier} // an audience that is not a URI
	}
	n := normalized{kind: uri, scheme: strings.ToLower(scheme)}
	authority, ok := strings.CutPrefix(rest, "//")
	if !ok {
		n.path = rest
		return n
	}
	n.kind = uriWithAuthority
	if i := strings.IndexAny(authority, "/?#"); i >= 0 {
		authority, n.path = authority[:i], authority[i:]
	}
	n.host = authority
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		n.user, n.host = authority[:i+1], authority[i+1:]
	}
	n.host = strings.ToLower(n.host)
	port := ""
	switch n.scheme {
	case "https":
		port = ":443"
	case "http":
		port = ":80"
	default:
		return n
	}
	n.host = strings.TrimSuffix(strings.TrimSuffix(n.host, port), ":")
	n.path = strings.TrimPrefix(n.path, "/")
	return n
}

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

func normalResource(identifier string) string {
	scheme, rest, ok := strings.Cut(identifier, ":")
	if !ok {
		return identifier // an audience that is not a URI
	}
	scheme = strings.ToLower(scheme)
	authority, ok := strings.CutPrefix(rest, "//")
	if !ok {
		return scheme + ":" + rest
	}
	path := ""
	if i := strings.IndexAny(authority, "/?#"); i >= 0 {
		authority, path = authority[:i], authority[i:]
	}
	user, host := "", authority
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		user, host = authority[:i+1], authority[i+1:]
	}
	host = strings.ToLower(host)
	if port := map[string]string{"https": ":443", "http": ":80"}[scheme]; port != "" {
		host = strings.TrimSuffix(strings.TrimSuffix(host, port), ":")
		if !strings.HasPrefix(path, "/") {
			path = "/" + path
		}
	}
	return scheme + "://" + user + host + path
}

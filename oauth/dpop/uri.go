package dpop

import (
	"errors"
	"net/url"
	"slices"
	"strings"
)

// NormalizeURI returns the normal form of an http or https URI without query and fragment (RFC 9449,
// section 4.3): scheme and host in lower case, no default port, no dot segments, and the shortest
// percent-encoding (RFC 3986, sections 6.2.2 and 6.2.3).
func NormalizeURI(uri string) (string, error) {
	if len(uri) > maxURIBytes {
		return "", errors.New("the URI is too long")
	}
	u, err := url.Parse(uri)
	if err != nil {
		return "", errors.New("the URI is malformed")
	}
	u.Scheme, u.Host = strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	if u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.Opaque != "" {
		return "", errors.New("the URI is not an http or https URI without user information")
	}
	if port := u.Port(); port == "" || port == "443" && u.Scheme == "https" || port == "80" && u.Scheme == "http" {
		u.Host = strings.TrimSuffix(u.Host, ":"+port)
	}
	u = u.ResolveReference(&url.URL{Path: u.Path, RawPath: u.RawPath}) // removes dot segments
	path := normalEscapes(u.EscapedPath())
	if path == "" {
		path = "/"
	}
	normal := u.Scheme + "://" + u.Host + path
	if len(normal) > maxURIBytes {
		return "", errors.New("the URI is too long")
	}
	return normal, nil
}

// isOneOf reports whether the htu of a proof identifies one of the URIs of an endpoint.
func isOneOf(claimed string, uris []string) bool {
	if slices.Contains(uris, claimed) {
		return true
	}
	normal, err := NormalizeURI(claimed)
	return err == nil && slices.Contains(uris, normal)
}

// normalEscapes decodes the escapes of unreserved characters, and writes the others in upper case.
func normalEscapes(path string) string {
	if !strings.Contains(path, "%") {
		return path
	}
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] != '%' || i+2 >= len(path) {
			b.WriteByte(path[i])
			continue
		}
		c := unhex(path[i+1])<<4 | unhex(path[i+2])
		if unreserved(c) {
			b.WriteByte(c)
		} else {
			b.WriteString(strings.ToUpper(path[i : i+3]))
		}
		i += 2
	}
	return b.String()
}

// unhex returns the value of a hexadecimal digit. url.Parse has checked that it is one.
func unhex(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	}
	return c - '0'
}

// unreserved reports whether a character is unreserved (RFC 3986, section 2.3).
func unreserved(c byte) bool {
	return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

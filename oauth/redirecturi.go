package oauth

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// Values of application_type (OpenID Connect Registration, section 2).
const (
	ApplicationWeb    = "web"
	ApplicationNative = "native"
)

// CheckRedirectURI returns an error if uri must not be registered for a client of the given
// application_type. Allowed are https and loopback http for all clients; for native clients,
// private-use schemes with a dot, which RFC 8252, section 7.1 requires so that no other
// application can claim them; and for all clients the schemes that the operator lists.
func CheckRedirectURI(uri, applicationType string, schemes ...string) error {
	u, err := parseRedirectURI(uri)
	if err != nil {
		return err
	}
	switch {
	case u.Scheme == "https":
		if u.Host == "" || u.Opaque != "" {
			return errors.New("an https redirect URI must have a host")
		}
	case u.Scheme == "http":
		if !IsLoopbackHost(u.Hostname()) {
			return errors.New("http is allowed for loopback only (RFC 9700, section 2.6): use https")
		}
	case slices.Contains(schemes, u.Scheme) && CheckRedirectScheme(u.Scheme) == nil:
	case !strings.Contains(u.Scheme, "."):
		return fmt.Errorf("the private-use scheme %q must be a reversed domain name such as com.example.app (RFC 8252, section 7.1), or be listed in redirect_schemes", u.Scheme)
	case applicationType != ApplicationNative:
		return fmt.Errorf("the scheme %q is allowed only for clients whose application_type is native", u.Scheme)
	}
	return nil
}

// parseRedirectURI checks what applies to every redirect URI: it is absolute, has no
// fragment (RFC 6749, section 3.1.2) and no user information, and has no character that
// browsers and net/url may parse differently.
func parseRedirectURI(uri string) (*url.URL, error) {
	if uri == "" || len(uri) > 2048 {
		return nil, errors.New("a redirect URI must have 1 to 2048 characters")
	}
	for i := range len(uri) {
		if c := uri[i]; c <= 0x20 || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}", c) >= 0 {
			return nil, errors.New("the redirect URI contains a character that RFC 3986 does not allow: percent-encode it")
		}
	}
	if strings.Contains(uri, "#") {
		return nil, errors.New("a redirect URI must not have a fragment (RFC 6749, section 3.1.2)")
	}
	u, err := url.Parse(uri)
	if err != nil {
		return nil, errors.New("the redirect URI cannot be parsed")
	}
	switch {
	case u.Scheme == "":
		return nil, errors.New("a redirect URI must be absolute: it starts with a scheme")
	case u.User != nil || strings.Contains(u.Host, "@"):
		return nil, errors.New("a redirect URI must not have user information")
	case hasDotSegment(u.EscapedPath()):
		return nil, errors.New("a redirect URI must not have a . or .. segment")
	}
	return u, nil
}

func hasDotSegment(path string) bool {
	path = strings.NewReplacer("%2e", ".", "%2E", ".", "%2f", "/", "%2F", "/").Replace(path)
	for segment := range strings.SplitSeq(path, "/") {
		name, _, _ := strings.Cut(segment, ";")
		if name == "." || name == ".." {
			return true
		}
	}
	return false
}

// MatchRedirectURI reports whether the requested URI matches the registered one. The strings
// must be equal, except that the port may differ if the registered URI is http on a loopback
// IP literal (RFC 8252, section 7.3; RFC 9700, section 4.1.3). Nothing is decoded or
// normalized.
func MatchRedirectURI(registered, requested string) bool {
	if registered == requested {
		return true
	}
	prefix, rest, ok := splitLoopback(registered)
	if !ok {
		return false
	}
	prefix2, rest2, ok := splitLoopback(requested)
	return ok && prefix == prefix2 && rest == rest2
}

// MatchLocalhostRedirectURI reports whether the registered URI is http on localhost without
// a port, and the requested URI is the same with a port. RFC 8252, section 7.3 allows this
// for loopback IP literals only, because the name may resolve to another address. But clients
// that publish their metadata use localhost, and cannot know the port.
func MatchLocalhostRedirectURI(registered, requested string) bool {
	const localhost = "http://localhost"
	path, ok := strings.CutPrefix(registered, localhost)
	if !ok || path != "" && path[0] != '/' && path[0] != '?' {
		return false
	}
	port, ok := strings.CutPrefix(requested, localhost+":")
	if !ok {
		return false
	}
	rest, ok := cutPort(port)
	return ok && rest == path
}

// cutPort removes the digits of a port from the start.
func cutPort(s string) (rest string, ok bool) {
	digits := 0
	for digits < len(s) && '0' <= s[digits] && s[digits] <= '9' {
		digits++
	}
	return s[digits:], digits > 0 && digits <= 5
}

// splitLoopback splits http://127.0.0.1:PORT/path or http://[::1]:PORT/path at its port.
func splitLoopback(uri string) (prefix, rest string, ok bool) {
	for _, p := range [...]string{"http://127.0.0.1", "http://[::1]"} {
		after, found := strings.CutPrefix(uri, p)
		if !found {
			continue
		}
		if port, found := strings.CutPrefix(after, ":"); found {
			if after, found = cutPort(port); !found {
				return "", "", false
			}
		}
		if after == "" || after[0] == '/' || after[0] == '?' {
			return p, after, true
		}
	}
	return "", "", false
}

// IsLoopbackHost reports whether host, without port, is localhost or a loopback address.
func IsLoopbackHost(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && addr.IsLoopback()
}

// CheckIssuer returns an error if issuer is not a valid issuer identifier: RFC 8414,
// section 2 requires https, no query and no fragment. http is accepted on loopback only.
func CheckIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return errors.New("the issuer must be a URL such as https://login.example.com")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(issuer, "#"):
		return errors.New("the issuer must not have a user, query or fragment (RFC 8414, section 2)")
	case strings.HasSuffix(u.Path, "/"):
		return errors.New("the issuer must not end with a slash: clients compare it character by character")
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && IsLoopbackHost(u.Hostname()):
		return nil
	}
	return errors.New("the issuer must use https; http is allowed for loopback only")
}

package oauth

import (
	"errors"
	"net/url"
	"strings"
)

// IsClientIDURL reports whether a client_id is the URL of a client's metadata document. A
// server must not assign IDs of that form (Client ID Metadata Document, section 7.1).
func IsClientIDURL(clientID string) bool { return strings.HasPrefix(clientID, "https://") }

// CheckClientIDURL returns an error if a client_id is not a valid URL of a metadata document
// (Client ID Metadata Document, section 3). It is stricter than the draft in two ways: it
// rejects a query, which SHOULD NOT be present, and characters that browsers and net/url may
// parse differently.
func CheckClientIDURL(clientID string) error {
	if !IsClientIDURL(clientID) {
		return errors.New("it must start with https://")
	}
	for i := range len(clientID) {
		if c := clientID[i]; c <= 0x20 || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}", c) >= 0 {
			return errors.New("it contains a character that RFC 3986 does not allow")
		}
	}
	if strings.ContainsAny(clientID, "?#") {
		return errors.New("it must not have a query or a fragment")
	}
	u, err := url.Parse(clientID)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "" || strings.HasSuffix(u.Host, ":"):
		return errors.New("it cannot be parsed")
	case u.User != nil || strings.Contains(u.Host, "@"):
		return errors.New("it must not have user information")
	case u.Path == "":
		return errors.New("it must have a path")
	case hasDotSegment(u.EscapedPath()):
		return errors.New("it must not have a . or .. segment")
	}
	return nil
}

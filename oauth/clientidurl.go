package oauth

import (
	"errors"
	"net/url"
	"strings"
)

// IsClientIDURL reports whether a client_id is meant as the URL of the client's metadata
// document. A server gives no client an ID of that form (Client ID Metadata Document,
// section 7.1).
func IsClientIDURL(clientID string) bool { return strings.HasPrefix(clientID, "https://") }

// CheckClientIDURL reports why a client_id is no URL of a metadata document, or nil (Client
// ID Metadata Document, section 3). It is stricter than that in two things: a query is
// refused, which SHOULD NOT be there, and so is what a browser and net/url might read
// differently.
func CheckClientIDURL(clientID string) error {
	if !IsClientIDURL(clientID) {
		return errors.New("it does not begin with https://")
	}
	for i := range len(clientID) {
		if c := clientID[i]; c <= 0x20 || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}", c) >= 0 {
			return errors.New("it holds a character that RFC 3986 does not allow")
		}
	}
	if strings.ContainsAny(clientID, "?#") {
		return errors.New("it has a query or a fragment")
	}
	u, err := url.Parse(clientID)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "" || strings.HasSuffix(u.Host, ":"):
		return errors.New("it cannot be parsed")
	case u.User != nil || strings.Contains(u.Host, "@"):
		return errors.New("it has user information")
	case u.Path == "":
		return errors.New("it has no path")
	case hasDotSegment(u.EscapedPath()):
		return errors.New("it has a . or .. segment")
	}
	return nil
}

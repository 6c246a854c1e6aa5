// Package cookiename derives the names of the server's cookies from its issuer.
package cookiename

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Of returns the name of an issuer's cookie. Browsers keep cookies by host alone, whatever
// the port (RFC 6265, section 8.5), and the prefix __Host- demands Path=/, so issuers on
// one host differ in the names: each ends with a hash of the issuer.
//
// The prefix has the browser hold a cookie to Secure, Path=/ and this very host, so that a
// sibling domain cannot set it (RFC 6265bis, section 4.1.3.2). An issuer of http, which is
// for loopback only, has cookies without Secure and so without the prefix.
func Of(issuer, name string) string {
	sum := sha256.Sum256([]byte(issuer))
	name += "_" + hex.EncodeToString(sum[:6])
	if strings.HasPrefix(issuer, "http://") {
		return name
	}
	return "__Host-" + name
}

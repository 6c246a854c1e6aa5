// Package cookiename derives the names of the server's cookies from its issuer.
package cookiename

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Of returns the name of an issuer's cookie. Browsers separate cookies by host but not by port
// (RFC 6265, section 8.5), and the __Host- prefix requires Path=/, so issuers on one host need
// different names: each ends with a hash of the issuer.
//
// With the prefix, the browser enforces Secure, Path=/ and the exact host, so that a sibling
// domain cannot set the cookie (RFC 6265bis, section 4.1.3.2). An http issuer, which is allowed
// only on loopback, has cookies without Secure and so without the prefix.
func Of(issuer, name string) string {
	var space [256]byte // an issuer of usual length, and then the name
	sum := sha256.Sum256(append(space[:0], issuer...))
	b := space[:0]
	if !strings.HasPrefix(issuer, "http://") {
		b = append(b, "__Host-"...)
	}
	b = append(append(b, name...), '_')
	return string(hex.AppendEncode(b, sum[:6]))
}

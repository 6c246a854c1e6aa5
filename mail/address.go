package mail

import (
	"errors"
	netmail "net/mail"
	"strings"

	"golang.org/x/net/idna"
)

// The maximum lengths of an address and of its part before the @ (RFC 5321, section 4.5.3.1).
const (
	maxAddressBytes = 254
	maxLocalBytes   = 64
)

// The reasons why ParseAddress refuses an address.
var (
	ErrAddress   = errors.New("use an address of the form name@example.com")
	ErrLocalPart = errors.New("only letters without accents, digits and punctuation may be in front of the @")
)

// ParseAddress returns an email address in its normal form: without spaces around it, and with
// the domain in lower case and in Unicode. It refuses everything that is not a plain address:
// display names, comments, quoted names, address literals and line breaks. The error is suitable
// for end users.
func ParseAddress(s string) (string, error) {
	s = strings.TrimSpace(s)
	local, domain, found := strings.Cut(s, "@")
	if !found || local == "" || domain == "" || len(s) > maxAddressBytes || len(local) > maxLocalBytes {
		return "", ErrAddress
	}
	if strings.ContainsFunc(local, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", ErrLocalPart // most mail servers cannot send to one (RFC 6531)
	}
	ascii, err := idna.Registration.ToASCII(strings.ToLower(domain))
	if err != nil || len(ascii) > 253 || strings.HasSuffix(ascii, ".") {
		return "", ErrAddress
	}
	unicode, err := idna.Registration.ToUnicode(ascii)
	if err != nil {
		return "", ErrAddress
	}
	for _, form := range []string{local + "@" + ascii, local + "@" + unicode} {
		parsed, err := netmail.ParseAddress(form)
		if err != nil || parsed.Name != "" || parsed.Address != form || len(form) > maxAddressBytes {
			return "", ErrAddress
		}
	}
	return local + "@" + unicode, nil
}

// Deliverable reports whether messages can be sent to an address. An operator may have declared one
// that ParseAddress refuses.
func Deliverable(address string) bool {
	_, err := forSMTP(address)
	return err == nil
}

// forSMTP returns an address of ParseAddress with the domain in ASCII.
func forSMTP(address string) (string, error) {
	address, err := ParseAddress(address)
	if err != nil {
		return "", err
	}
	local, domain, _ := strings.Cut(address, "@")
	ascii, err := idna.Registration.ToASCII(domain)
	if err != nil {
		return "", ErrAddress
	}
	return local + "@" + ascii, nil
}

// Domain returns the domain of an address of ParseAddress.
func Domain(address string) string {
	_, domain, _ := strings.Cut(address, "@")
	return domain
}

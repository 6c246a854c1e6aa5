package identity

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/secure/precis"
	"golang.org/x/text/unicode/norm"
)

// maxIdentifierBytes is the length of the longest e-mail address that SMTP carries
// (RFC 5321, section 4.5.3.1.3, without its angle brackets).
const maxIdentifierBytes = 254

// errIdentifier says what a username or e-mail address may be made of, in words for the
// person who chose it.
var errIdentifier = errors.New("a username or e-mail address has 1 to 254 bytes and is made of letters, digits and ASCII punctuation, without spaces, invisible characters or letters of several scripts")

// CanonicalIdentifier returns the one form under which a username or an e-mail address
// is stored and looked up, so that two that look or sound the same are the same. Each part
// around an @ is prepared by UsernameCaseMapped (RFC 8265, section 3.3), which maps full
// and half width and upper case and refuses whatever is invisible, changes direction or
// stands for another character. Beyond the profile, letters are case-folded (ß is ss), the
// dotless ı is i, and Latin may not mix with Cyrillic or Greek, whose letters look alike.
// The canonical form of a canonical form is the same; what has no such form is refused. The
// error tells a person what is wrong.
func CanonicalIdentifier(s string) (string, error) {
	canonical, err := mapIdentifier(strings.TrimSpace(s))
	if err != nil {
		return "", err
	}
	if again, err := mapIdentifier(canonical); err != nil || again != canonical {
		return "", errIdentifier
	}
	return canonical, nil
}

// mapIdentifier applies the mappings of CanonicalIdentifier once.
func mapIdentifier(s string) (string, error) {
	if s == "" || len(s) > maxIdentifierBytes || !utf8.ValidString(s) {
		return "", errIdentifier
	}
	parts := strings.Split(s, "@")
	for i, part := range parts {
		mapped, err := precis.UsernameCaseMapped.String(part)
		if err != nil || mapped == "" || mixesScripts(mapped) {
			return "", errIdentifier
		}
		// An accent may now follow the letter that it can be composed with.
		parts[i] = norm.NFC.String(strings.ReplaceAll(cases.Fold().String(mapped), "ı", "i"))
	}
	return strings.Join(parts, "@"), nil
}

// mixesScripts reports whether letters of more than one of the look-alike scripts stand
// in s.
func mixesScripts(s string) bool {
	found := 0
	for _, script := range []*unicode.RangeTable{unicode.Latin, unicode.Cyrillic, unicode.Greek} {
		if strings.ContainsFunc(s, func(r rune) bool { return unicode.Is(script, r) }) {
			found++
		}
	}
	return found > 1
}

// Email returns the e-mail address of the person, "" if none is known.
func (u *User) Email() string {
	email, _ := u.Claims["email"].(string)
	return email
}

// Identifiers returns the canonical identifiers that find the person: the username and
// the e-mail address. What Check refuses is left out.
func (u *User) Identifiers() []string {
	var identifiers []string
	for _, s := range []string{u.Username, u.Email()} {
		canonical, err := CanonicalIdentifier(s)
		if err == nil && (len(identifiers) == 0 || identifiers[0] != canonical) {
			identifiers = append(identifiers, canonical)
		}
	}
	return identifiers
}

// Check reports the first thing that keeps the record from being stored, in words for
// whoever wrote it.
func (u *User) Check() error {
	if u.ID == "" || len(u.ID) > 255 || strings.ContainsFunc(u.ID, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("sub: 1 to 255 printable ASCII characters without spaces (OpenID Connect Core, section 2)")
	}
	if _, err := CanonicalIdentifier(u.Username); err != nil {
		return fmt.Errorf("username: %w", err)
	}
	if email, ok := u.Claims["email"]; ok {
		if err := checkEmail(email); err != nil {
			return fmt.Errorf("email: %w", err)
		}
	}
	if u.PasswordHash != "" {
		if err := CheckPasswordHash(u.PasswordHash); err != nil {
			return fmt.Errorf("password_hash: %w", err)
		}
	}
	return nil
}

func checkEmail(claim any) error {
	email, ok := claim.(string)
	if !ok {
		return errors.New("an e-mail address is a text")
	}
	local, domain, found := strings.Cut(email, "@")
	if !found || local == "" || domain == "" || strings.Contains(domain, "@") {
		return errors.New("an e-mail address has one @, with something before and after it")
	}
	_, err := CanonicalIdentifier(email)
	return err
}

package identity

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/secure/precis"
	"golang.org/x/text/unicode/norm"
)

// maxIdentifierBytes is the maximum length of an email address in SMTP (RFC 5321, section
// 4.5.3.1.3, without the angle brackets).
const maxIdentifierBytes = 254

// ErrIdentifier describes a valid username or email address. End users see it.
var ErrIdentifier = errors.New("use letters, digits and ASCII punctuation, at most 254 bytes, without spaces, invisible characters or mixed alphabets")

// CanonicalIdentifier returns the form in which a username or email address is stored and
// looked up, so that identifiers that look or sound the same are the same. Each part around an
// @ is prepared with UsernameCaseMapped (RFC 8265, section 3.3), which maps full width, half
// width and upper case, and refuses characters that are invisible, change the text direction or
// are compatibility forms. In addition, letters are case-folded (ß becomes ss), the dotless ı
// becomes i, and Latin must not be mixed with Cyrillic or Greek, which look alike. The function
// is idempotent: identifiers without a stable form are refused. The error is suitable for end
// users.
func CanonicalIdentifier(s string) (string, error) {
	canonical, err := mapIdentifier(strings.TrimSpace(s))
	if err != nil {
		return "", err
	}
	if again, err := mapIdentifier(canonical); err != nil || again != canonical {
		return "", ErrIdentifier
	}
	return canonical, nil
}

// DirectoryAccount returns the name under which limits count the passwords for a user of a directory that
// only users themselves can search: the same for all spellings that directories take for one name. It is
// CanonicalIdentifier without accents, which Active Directory ignores, and allows ASCII with single spaces.
func DirectoryAccount(username string) (string, error) {
	if strings.Contains(username, " ") {
		if strings.Join(strings.Fields(username), " ") != username || strings.ContainsFunc(username, func(r rune) bool { return r < ' ' || r > '~' }) {
			return "", ErrIdentifier
		}
		return strings.ToLower(username), nil
	}
	canonical, err := CanonicalIdentifier(username)
	if err != nil {
		return "", err
	}
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return r
	}, norm.NFD.String(canonical)), nil
}

// mapIdentifier applies the mappings of CanonicalIdentifier once.
func mapIdentifier(s string) (string, error) {
	if s == "" || len(s) > maxIdentifierBytes || !utf8.ValidString(s) {
		return "", ErrIdentifier
	}
	parts := strings.Split(s, "@")
	for i, part := range parts {
		mapped, err := precis.UsernameCaseMapped.String(part)
		if err != nil || mapped == "" || mixesScripts(mapped) {
			return "", ErrIdentifier
		}
		// An accent may now follow the letter that it can be composed with.
		parts[i] = norm.NFC.String(strings.ReplaceAll(cases.Fold().String(mapped), "ı", "i"))
	}
	return strings.Join(parts, "@"), nil
}

// mixesScripts reports whether s contains letters of more than one of the look-alike scripts.
func mixesScripts(s string) bool {
	found := 0
	for _, script := range []*unicode.RangeTable{unicode.Latin, unicode.Cyrillic, unicode.Greek} {
		if strings.ContainsFunc(s, func(r rune) bool { return unicode.Is(script, r) }) {
			found++
		}
	}
	return found > 1
}

// Email returns the email address of the user; "" if it is unknown.
func (u *User) Email() string {
	email, _ := u.Claims["email"].(string)
	return email
}

// Identifiers returns the canonical identifiers by which the user is found: the username, the
// email address, and former usernames. Invalid ones are left out.
func (u *User) Identifiers() []string {
	all := []string{u.Username, u.Email()}
	for _, former := range u.Account.FormerNames {
		all = append(all, former.Name)
	}
	var identifiers []string
	for _, s := range all {
		canonical, err := CanonicalIdentifier(s)
		if err == nil && !slices.Contains(identifiers, canonical) {
			identifiers = append(identifiers, canonical)
		}
	}
	return identifiers
}

// Check returns the first reason why the record cannot be stored, in words for its author.
func (u *User) Check() error {
	if u.ID == "" || len(u.ID) > 255 || strings.ContainsFunc(u.ID, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("sub: use 1 to 255 printable ASCII characters without spaces (OpenID Connect Core, section 2)")
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
		return errors.New("must be a string")
	}
	local, domain, found := strings.Cut(email, "@")
	if !found || local == "" || domain == "" || strings.Contains(domain, "@") {
		return errors.New("use an address of the form name@domain")
	}
	_, err := CanonicalIdentifier(email)
	return err
}

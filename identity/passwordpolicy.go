package identity

import (
	_ "embed"
	"slices"
	"strings"
	"unicode/utf8"
)

// minPasswordRunes is the shortest password that may be chosen (NIST SP 800-63B-4,
// section 3.1.1.2, for passwords beside which more may be asked; ASVS 6.2.1).
const minPasswordRunes = 8

// WeakPasswordError says why a password may not be chosen, in words for the person.
type WeakPasswordError struct{ Reason string }

func (e *WeakPasswordError) Error() string { return e.Reason }

//go:embed commonpasswords.txt
var commonPasswords string

// CheckPassword reports why a password may not be chosen by a person. Nothing is asked of
// its composition, and passphrases in any script are welcome.
func CheckPassword(password string, user *User) error {
	if len(password) > MaxPasswordBytes {
		return ErrPasswordTooLong
	}
	if !utf8.ValidString(password) {
		return &WeakPasswordError{"The password holds something that is no text."}
	}
	normalized := normalizePassword(password)
	if utf8.RuneCountInString(normalized) < minPasswordRunes {
		return &WeakPasswordError{"The password is too short: choose 8 characters or more. A few words make a good one."}
	}
	folded := strings.ToLower(normalized)
	// The list is short and this is rare: no index is kept.
	if slices.Contains(strings.Fields(commonPasswords), folded) || repeats(folded) {
		return &WeakPasswordError{"The password is one of those that are guessed first. A few words make a better one."}
	}
	local, _, _ := strings.Cut(user.Email(), "@")
	for _, name := range []string{user.Username, user.Email(), local, "valetkey"} {
		if name != "" && strings.Trim(strings.ReplaceAll(folded, strings.ToLower(name), ""), "0123456789!?.-_ ") == "" {
			return &WeakPasswordError{"The password is too close to your name or to ours. A few words make a better one."}
		}
	}
	return nil
}

// repeats reports whether s is one or two characters over and over.
func repeats(s string) bool {
	runes := []rune(s)
	for i := 2; i < len(runes); i++ {
		if runes[i] != runes[i-2] {
			return false
		}
	}
	return true
}

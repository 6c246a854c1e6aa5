package identity

import (
	"context"
	"log/slog"
	"strings"
	"unicode/utf8"

	"github.com/valetkey/valetkey/internal/breached"
	"github.com/valetkey/valetkey/internal/event"
)

// MinPasswordRunes is the minimum length of a new password (NIST SP 800-63B-4, section 3.1.1.2,
// for passwords that can be combined with other factors; ASVS 6.2.1).
const MinPasswordRunes = 8

// WeakPasswordError is the reason why a password is not allowed, in words for end users.
type WeakPasswordError struct {
	// Weakness is invalid, short, common, name or breached.
	Weakness string
	Reason   string
}

func (e *WeakPasswordError) Error() string { return e.Reason }

// CheckPassword reports why a password is not allowed. There are no composition rules, and
// passphrases in any script are allowed.
func CheckPassword(password string, user *User) error {
	if len(password) > MaxPasswordBytes {
		return ErrPasswordTooLong
	}
	if !utf8.ValidString(password) {
		return &WeakPasswordError{"invalid", "Your password contains invalid characters. Use letters, digits, spaces and punctuation."}
	}
	normalized := normalizePassword(password)
	if utf8.RuneCountInString(normalized) < MinPasswordRunes {
		return &WeakPasswordError{"short", "Your password is too short. Use at least 8 characters. A few unrelated words make a good password."}
	}
	folded := strings.ToLower(normalized)
	if breached.Contains(folded) || repeats(folded) {
		return &WeakPasswordError{"common", "Your password is easy to guess: attackers try it early. A few unrelated words make a better one."}
	}
	local, _, _ := strings.Cut(user.Email(), "@")
	for _, name := range []string{user.Username, user.Email(), local, "valetkey"} {
		if name != "" && strings.Trim(strings.ReplaceAll(folded, strings.ToLower(name), ""), "0123456789!?.-_ ") == "" {
			return &WeakPasswordError{"name", "Your password is too similar to your name or the name of this service. A few unrelated words make a better one."}
		}
	}
	return nil
}

// checkNewPassword is CheckPassword, and also asks the service for breached passwords, if there is
// one. If the service fails, the password is allowed: users must be able to change a password then,
// too.
func (a *Accounts) checkNewPassword(ctx context.Context, password string, user *User) error {
	if err := CheckPassword(password, user); err != nil || a.breached == nil {
		return err
	}
	found, err := a.breached(ctx, normalizePassword(password))
	if err != nil {
		a.events.Record(ctx, event.BreachedPasswordsFailed, slog.String("cause", err.Error()))
		return nil
	}
	if found {
		return &WeakPasswordError{"breached", "Your password is known from a data breach: attackers have it on their lists. A few unrelated words make a better one."}
	}
	return nil
}

// repeats reports whether s repeats one or two characters.
func repeats(s string) bool {
	runes := []rune(s)
	for i := 2; i < len(runes); i++ {
		if runes[i] != runes[i-2] {
			return false
		}
	}
	return true
}

package identity

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"unicode/utf8"

	"github.com/valetkey/valetkey/internal/breached"
	"github.com/valetkey/valetkey/internal/event"
)

// The minimum lengths of a new password next to a second factor, and of one that is the only factor if
// Config.MinPasswordRunes does not say otherwise (NIST SP 800-63B-4, section 3.1.1.2).
const (
	MinPasswordRunes      = 8
	MinPasswordRunesAlone = 15
)

// WeakPasswordError is the reason why a password is not allowed, in words for end users.
type WeakPasswordError struct {
	// Weakness is invalid, short, common, name or breached.
	Weakness string
	Reason   string
	// Min is the minimum length, if the password is too short.
	Min int
}

func tooShort(least int) *WeakPasswordError {
	return &WeakPasswordError{Weakness: "short", Min: least, Reason: fmt.Sprintf("Your password is too short. Use at least %d characters. A few unrelated words make a good password.", least)}
}

func (e *WeakPasswordError) Error() string { return e.Reason }

// CheckPassword reports why nobody may have a password. There are no composition rules, and
// passphrases in any script are allowed.
func CheckPassword(password string, user *User) error {
	if len(password) > MaxPasswordBytes {
		return ErrPasswordTooLong
	}
	if !utf8.ValidString(password) {
		return &WeakPasswordError{Weakness: "invalid", Reason: "Your password contains invalid characters. Use letters, digits, spaces and punctuation."}
	}
	normalized := normalizePassword(password)
	if utf8.RuneCountInString(normalized) < MinPasswordRunes {
		return tooShort(MinPasswordRunes)
	}
	folded := strings.ToLower(normalized)
	if breached.Contains(folded) || repeats(folded) {
		return &WeakPasswordError{Weakness: "common", Reason: "Your password is easy to guess: it is one of the first that attackers try. A few unrelated words make a better one."}
	}
	local, _, _ := strings.Cut(user.Email(), "@")
	for _, name := range []string{user.Username, user.Email(), local, "valetkey"} {
		if name != "" && strings.Trim(strings.ReplaceAll(folded, strings.ToLower(name), ""), "0123456789!?.-_ ") == "" {
			return &WeakPasswordError{Weakness: "name", Reason: "Your password is too similar to your name or the name of this service. A few unrelated words make a better one."}
		}
	}
	return nil
}

// MinPasswordRunes returns the minimum length of a user's new password: it may be shorter next to a second
// factor.
func (a *Accounts) MinPasswordRunes(user *User) int {
	if user.NeedsSecondFactor() {
		return MinPasswordRunes
	}
	return a.minPassword
}

// CheckLength reports whether a user's new password is too short. The error is nil or
// *WeakPasswordError.
func (a *Accounts) CheckLength(password string, user *User) error {
	if least := a.MinPasswordRunes(user); utf8.RuneCountInString(normalizePassword(password)) < least {
		return tooShort(least)
	}
	return nil
}

// checkNewPassword reports why a user must not choose a password. It also asks the service for breached
// passwords, if there is one. If the service fails, the password is allowed: users must be able to change a password then,
// too.
func (a *Accounts) checkNewPassword(ctx context.Context, password string, user *User) error {
	if err := CheckPassword(password, user); err != nil {
		return err
	}
	if err := a.CheckLength(password, user); err != nil || a.breached == nil {
		return err
	}
	found, err := a.breached(ctx, normalizePassword(password))
	if err != nil {
		a.events.Record(ctx, event.BreachedPasswordsFailed, slog.String("cause", err.Error()))
		return nil
	}
	if found {
		return &WeakPasswordError{Weakness: "breached", Reason: "Your password is known from a data breach, so attackers will try it. A few unrelated words make a better one."}
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

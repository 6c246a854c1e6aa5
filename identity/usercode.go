package identity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/valetkey/valetkey/internal/breached"
	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/mail"
	"github.com/valetkey/valetkey/storage"
)

// A user code is a secret that a user has set and tells an application that wants to ask them for
// approval (CIBA Core, section 7.1). It authenticates no one: whoever knows it can only ask.

// The length of a user code, without spaces and hyphens.
const (
	MinUserCode = 6
	MaxUserCode = 64
)

// The reasons why a user code is not allowed.
var (
	ErrUserCodeLength     = errors.New("identity: the user code is too short or too long")
	ErrUserCodeCharacters = errors.New("identity: the user code contains invalid characters")
	ErrUserCodeWeak       = errors.New("identity: the user code is easy to guess")
	ErrUserCodeIsPassword = errors.New("identity: the user code is the password")
)

// SetUserCode sets the user code of a user. The error is one of the ErrUserCode… values, ErrBusy or an
// internal error. The caller has checked that the request comes from the user.
func (a *Accounts) SetUserCode(ctx context.Context, now time.Time, userID, code string, from Activity) error {
	user, err := a.User(ctx, userID)
	if err != nil {
		return fmt.Errorf("set a user code: %w", err)
	}
	canonical := canonicalUserCode(code)
	if err := checkUserCode(canonical); err != nil {
		return err
	}
	if err := a.reserved.enter(ctx, user.ID); err != nil {
		return err
	}
	defer a.reserved.leave()
	// Users give the code to others, so it must not be what they sign in with.
	if user.PasswordHash != "" && (a.verify(user.PasswordHash, code) || a.verify(user.PasswordHash, canonical)) {
		return ErrUserCodeIsPassword
	}
	hash, err := HashPassword(canonical)
	if err != nil {
		return err
	}
	if err := a.storeUserCode(ctx, now, user.ID, hash, from); err != nil {
		return err
	}
	a.events.Record(ctx, event.UserCodeSet, named(user))
	return nil
}

// RemoveUserCode removes the user code of a user.
func (a *Accounts) RemoveUserCode(ctx context.Context, now time.Time, userID string, from Activity) error {
	if err := a.storeUserCode(ctx, now, userID, "", from); err != nil {
		return err
	}
	a.events.Record(ctx, event.UserCodeRemoved, a.namedByID(ctx, userID))
	return nil
}

// storeUserCode stores the hash of a user code, "" for none, and notifies the user.
func (a *Accounts) storeUserCode(ctx context.Context, now time.Time, userID, hash string, from Activity) error {
	var user User
	err := a.store.UpdateUser(ctx, userID, func(stored *User) error {
		if !stored.Active() {
			return storage.ErrNotFound
		}
		stored.UserCodeHash, stored.UpdatedAt = hash, now
		stored.AddEvent(now, from.event(EventUserCodeChanged, ""))
		user = *stored.Clone()
		return nil
	})
	if err != nil {
		return fmt.Errorf("store a user code: %w", err)
	}
	m := from.message(mail.KindUserCodeChanged, now)
	m.Path = a.pages.Account
	a.notify(ctx, now, &user, m)
	return nil
}

// checkUserCode reports why a new code, in canonical form, is not allowed.
func checkUserCode(code string) error {
	length := utf8.RuneCountInString(code)
	switch {
	case !utf8.ValidString(code) || strings.ContainsFunc(code, unicode.IsControl):
		return ErrUserCodeCharacters
	case length < MinUserCode || length > MaxUserCode:
		return ErrUserCodeLength
	case repeats(code) || isSequence(code) || breached.Contains(code):
		return ErrUserCodeWeak
	}
	return nil
}

// canonicalUserCode makes a code the same however the user says it and the application types it.
func canonicalUserCode(code string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || unicode.IsSpace(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, normalizePassword(code))
}

// isSequence reports whether each character follows the one before it, or precedes it.
func isSequence(s string) bool {
	runes := []rune(s)
	for _, step := range []rune{1, -1} {
		i := 1
		for i < len(runes) && runes[i]-runes[i-1] == step {
			i++
		}
		if i == len(runes) {
			return true
		}
	}
	return false
}

// noUserCode is a hash that no code has. It takes the place of the one that a user does not have.
var noUserCode = (&argonHash{memory: argonMemory, time: argonTime, threads: argonThreads, salt: make([]byte, argonSalt), key: make([]byte, argonKey)}).String()

// CheckUserCode reports whether a user has set a user code, and whether a code is that one. With a
// code, it computes one hash, whether there is such a user or not. Of several owners, those with many
// checks delay only themselves. The error is ErrBusy or an internal error.
func (a *Accounts) CheckUserCode(ctx context.Context, userID, owner, code string) (set, correct bool, err error) {
	hash := ""
	if userID != "" {
		user, err := a.User(ctx, userID)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return false, false, fmt.Errorf("check a user code: %w", err)
		}
		if err == nil {
			hash = user.UserCodeHash
		}
	}
	if code == "" || len(code) > MaxPasswordBytes {
		return hash != "", false, nil
	}
	if err := a.hashing.enter(ctx, "user code "+owner); err != nil {
		return false, false, err
	}
	defer a.hashing.leave()
	if hash == "" {
		a.verify(noUserCode, canonicalUserCode(code))
		return false, false, nil
	}
	return true, a.verify(hash, canonicalUserCode(code)), nil
}

package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/storage"
)

// Authenticator is something with which a user proves who they are, other than the password.
type Authenticator struct {
	// ID is random, public and never reused.
	ID   string `json:"id"`
	Kind Method `json:"kind"`
	// Name is what the user calls it.
	Name       string    `json:"name,omitempty"`
	CreatedAt  time.Time `json:"created_at,omitzero"`
	LastUsedAt time.Time `json:"last_used_at,omitzero"`
	// One of these is set, for its Kind. What they point to does not change: a change replaces it.
	TOTP          *TOTP          `json:"totp,omitempty"`
	RecoveryCodes *RecoveryCodes `json:"recovery_codes,omitempty"`
	Passkey       *Passkey       `json:"passkey,omitempty"`
}

// Format keeps secrets out of logs and messages.
func (a Authenticator) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, "[authenticator %q]", a.ID)
}

// LogValue keeps secrets out of structured logs.
func (a Authenticator) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(a)) }

const (
	// maxAuthenticators and maxAuthenticatorBytes limit the authenticators of a user.
	maxAuthenticators     = 30
	maxAuthenticatorBytes = 64 << 10
	// maxAuthenticatorName is the longest name, in bytes.
	maxAuthenticatorName = 100
)

// ErrTooManyAuthenticators means that a user has as many authenticators as are allowed.
var ErrTooManyAuthenticators = errors.New("identity: the user has too many authenticators")

// EncodeAuthenticators returns what stores store; "" for no authenticators. The error is
// ErrTooManyAuthenticators or an internal error.
func EncodeAuthenticators(authenticators []Authenticator) (string, error) {
	if len(authenticators) == 0 {
		return "", nil
	}
	encoded, err := json.Marshal(authenticators)
	if err != nil {
		return "", fmt.Errorf("encode authenticators: %w", err)
	}
	if len(authenticators) > maxAuthenticators || len(encoded) > maxAuthenticatorBytes {
		return "", ErrTooManyAuthenticators
	}
	return string(encoded), nil
}

// DecodeAuthenticators is the reverse of EncodeAuthenticators.
func DecodeAuthenticators(encoded string) ([]Authenticator, error) {
	if encoded == "" {
		return nil, nil
	}
	var authenticators []Authenticator
	if err := json.Unmarshal([]byte(encoded), &authenticators); err != nil {
		return nil, fmt.Errorf("decode authenticators: %w", err)
	}
	return authenticators, nil
}

// Authenticator returns an authenticator by ID; nil if the user has none with that ID.
func (u *User) Authenticator(id string) *Authenticator {
	for i := range u.Authenticators {
		if u.Authenticators[i].ID == id {
			return &u.Authenticators[i]
		}
	}
	return nil
}

// Has reports whether the user can use a method of their own: the password or an authenticator.
func (u *User) Has(method Method) bool {
	if method == MethodPassword {
		return u.PasswordHash != ""
	}
	return slices.ContainsFunc(u.Authenticators, func(a Authenticator) bool { return a.Kind == method })
}

// NeedsSecondFactor reports whether the user has chosen to sign in with two factors. A passkey alone
// does not ask for that: browsers create them unasked, on one device, and the user signs in with
// the password on another.
func (u *User) NeedsSecondFactor() bool { return u.Has(MethodTOTP) || u.MustEnrol() }

// methodMissing is the Kind of a mark, not of an authenticator: the account had a second factor, which
// was removed when the user got back in without it. It is removed when another one is added.
const methodMissing Method = "missing"

// MustEnrol reports whether the user must set up a second factor at the next sign-in.
func (u *User) MustEnrol() bool { return u.Has(methodMissing) }

// Reachable returns the strongest class that the user can reach with what the account has.
func (u *User) Reachable() Class {
	var proofs []ProvedMethod
	if u.PasswordHash != "" {
		proofs = append(proofs, ProvedMethod{Method: MethodPassword})
	}
	if len(u.External) > 0 {
		proofs = append(proofs, ProvedMethod{Method: MethodUpstream})
	}
	for _, a := range u.Authenticators {
		if a.Kind == MethodRecoveryCode {
			continue // they replace another second factor, and must not be needed for each change
		}
		proofs = append(proofs, ProvedMethod{Method: a.Kind, Authenticator: a.ID, UserVerified: a.Kind == MethodPasskey})
	}
	return Reached(proofs)
}

// AddAuthenticator adds an authenticator to a user, and notifies the user. It sets the ID and
// CreatedAt. A new set of recovery codes replaces the former one. The error is
// *ThrottledError, ErrTooManyAuthenticators, storage.ErrNotFound if the user is not active, or an internal
// error.
func (a *Accounts) AddAuthenticator(ctx context.Context, now time.Time, userID string, added Authenticator, from Activity) (id string, err error) {
	return a.addAuthenticator(ctx, now, userID, added, from, func(*User) error { return nil })
}

// addAuthenticator is AddAuthenticator with a check of the stored user, under its lock.
func (a *Accounts) addAuthenticator(ctx context.Context, now time.Time, userID string, added Authenticator, from Activity, check func(*User) error) (id string, err error) {
	if err := a.takeChange(ctx, now, userID); err != nil {
		return "", err
	}
	added.ID, added.CreatedAt, added.Name = storage.NewID(), now, cut(added.Name, maxAuthenticatorName)
	var user User
	var replaced *Authenticator
	err = a.store.UpdateUser(ctx, userID, func(stored *User) error {
		replaced = nil
		if !stored.Active() {
			return storage.ErrNotFound
		}
		if err := check(stored); err != nil {
			return err
		}
		for _, old := range stored.Authenticators {
			if old.Kind == added.Kind && added.Kind == MethodRecoveryCode {
				replaced = &old
			}
		}
		if added.Kind == MethodRecoveryCode {
			stored.Authenticators = slices.DeleteFunc(stored.Authenticators, func(a Authenticator) bool { return a.Kind == added.Kind })
		}
		if methods[added.Kind].second && added.Kind != MethodRecoveryCode {
			stored.Authenticators = slices.DeleteFunc(stored.Authenticators, func(a Authenticator) bool { return a.Kind == methodMissing })
			stored.Account.RecoveringSince = time.Time{}
		}
		stored.Authenticators, stored.UpdatedAt = append(stored.Authenticators, added), now
		stored.AddEvent(now, from.event(EventMethodAdded, added.Name))
		user = *stored
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("add an authenticator: %w", err)
	}
	a.events.Record(ctx, event.MethodAdded, named(&user), slog.String("method", string(added.Kind)), slog.String("authenticator", added.ID))
	a.methodChanged(ctx, now, &user, &added, replaced, from)
	return added.ID, nil
}

// ErrLastMethod means that the user could not sign in any more.
var ErrLastMethod = errors.New("identity: the user has no other way to sign in")

// CanRemove reports whether the user can still begin a sign-in without an authenticator.
func (a *Accounts) CanRemove(u *User, id string) bool {
	if removed := u.Authenticator(id); removed == nil || !methods[removed.Kind].first {
		return true
	}
	without := *u
	without.Authenticators = slices.DeleteFunc(slices.Clone(u.Authenticators), func(a Authenticator) bool { return a.ID == id })
	return a.CanSignIn(&without)
}

// CanSignIn reports whether a user has a method with which a sign-in can begin here. What the operator has
// turned off, and links to providers that are gone, do not count.
func (a *Accounts) CanSignIn(u *User) bool {
	linked := slices.ContainsFunc(u.External, func(l ExternalLink) bool { return a.provider == nil || a.provider(l.Provider) })
	return linked || u.Has(MethodPassword) && !a.noPasswords || u.Has(MethodPasskey) && !a.noPasskeys
}

// RemoveAuthenticator removes an authenticator from a user, and notifies the user. It is not an error
// if the user has none with that ID. The error is *ThrottledError, ErrLastMethod or an internal error.
func (a *Accounts) RemoveAuthenticator(ctx context.Context, now time.Time, userID, id string, from Activity) error {
	if err := a.takeChange(ctx, now, userID); err != nil {
		return err
	}
	var user User
	var removed *Authenticator
	err := a.store.UpdateUser(ctx, userID, func(stored *User) error {
		removed = nil
		if !a.CanRemove(stored, id) {
			return ErrLastMethod
		}
		if found := stored.Authenticator(id); found != nil {
			gone := *found
			removed = &gone
			stored.Authenticators = slices.DeleteFunc(stored.Authenticators, func(a Authenticator) bool { return a.ID == id })
			stored.UpdatedAt = now
			stored.AddEvent(now, from.event(EventMethodRemoved, gone.Name))
		}
		user = *stored
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove an authenticator: %w", err)
	}
	if removed != nil {
		a.events.Record(ctx, event.MethodRemoved, named(&user), slog.String("method", string(removed.Kind)), slog.String("authenticator", id))
		a.methodChanged(ctx, now, &user, nil, removed, from)
	}
	return nil
}

// UpdateAuthenticator changes an authenticator of a user, for instance its name or what is known about
// its last use. No notice is sent. update is called as by Store.UpdateUser; the ID and kind cannot
// change. The error is that of update, storage.ErrNotFound if the user is not active or has no such
// authenticator, or an internal error.
func (a *Accounts) UpdateAuthenticator(ctx context.Context, userID, id string, update func(*Authenticator) error) error {
	err := a.store.UpdateUser(ctx, userID, func(stored *User) error {
		found := stored.Authenticator(id)
		if found == nil || !stored.MaySignIn() {
			return storage.ErrNotFound
		}
		kind := found.Kind
		if err := update(found); err != nil {
			return err
		}
		found.ID, found.Kind, found.Name = id, kind, cut(found.Name, maxAuthenticatorName)
		return nil
	})
	if err != nil {
		return fmt.Errorf("update an authenticator: %w", err)
	}
	return nil
}

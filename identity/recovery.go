package identity

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/mail"
	"github.com/valetkey/valetkey/storage"
)

// A user who has lost every way to sign in gets a link from an operator, who has made sure that it is
// the right person. It works once, and stops working when the password changes or everything of the
// user ends.

// RecoveryLifetime is how long such a link is valid, unless the operator says otherwise.
const RecoveryLifetime = 24 * time.Hour

// NewRecovery stores a recovery of a user, and returns the secret of its link.
func (a *Accounts) NewRecovery(ctx context.Context, now time.Time, user *User, lifetime time.Duration) (token string, err error) {
	data := proofData{Purpose: purposeRecovery, User: user.ID, Password: hashOf("password", user.PasswordHash)}
	proof, err := newProof(now, data, "", SessionFamily(user.ID), lifetime)
	if err != nil {
		return "", err
	}
	if err := a.store.Put(ctx, now, proof.tickets...); err != nil {
		return "", fmt.Errorf("store a recovery: %w", err)
	}
	return proof.token, nil
}

// RecoveryByLink returns the proof of a link. It changes nothing. The error is ErrProofOver or an
// internal error.
func (a *Accounts) RecoveryByLink(ctx context.Context, now time.Time, token string) (*Proof, error) {
	return a.proof(ctx, now, purposeRecovery, ticketkind.MailedProof.Hash(token))
}

// Recover sets a new password and removes all authenticators, because the user has lost them. If one of
// them was a second factor, the user must set up another one at the next sign-in, and can do nothing
// else before. Everything that was issued to the user ends. The error is ErrProofOver,
// *WeakPasswordError, ErrPasswordTooLong, ErrBusy or an internal error.
func (a *Accounts) Recover(ctx context.Context, now time.Time, r PasswordReset) error {
	user, hash, err := a.newPasswordHash(ctx, r)
	if err != nil {
		return err
	}
	err = a.store.UpdateUser(ctx, user.ID, func(stored *User) error {
		if stored.suspended() || subtle.ConstantTimeCompare(hashOf("password", stored.PasswordHash), r.Proof.data.Password) != 1 {
			return ErrProofOver
		}
		stored.PasswordHash, stored.UpdatedAt = hash, now
		stored.unlock(now)
		stored.loseAuthenticators(now, func(*Authenticator) bool { return true })
		stored.AddEvent(now, r.Activity.event(EventRecovered, ""))
		stored.End(now, nil)
		*user = *stored
		return nil
	})
	if errors.Is(err, ErrProofOver) || errors.Is(err, storage.ErrNotFound) {
		return ErrProofOver
	}
	if err != nil {
		return fmt.Errorf("recover an account: %w", err)
	}
	if err := a.spend(ctx, now, r.Proof); err != nil && !errors.Is(err, ErrProofOver) { // it has ended with the rest
		return err
	}
	a.events.Record(ctx, event.UserRecovered, named(user))
	a.notify(ctx, now, user, r.Activity.message(mail.KindRecovered, now))
	return nil
}

// LoseAuthenticator removes an authenticator that a user has lost. If the user then has no second factor,
// another one must be set up at the next sign-in. Functions passed to Store.UpdateUser call it.
func (u *User) LoseAuthenticator(now time.Time, id string) (removed bool) {
	before := len(u.Authenticators)
	u.loseAuthenticators(now, func(a *Authenticator) bool { return a.ID == id && a.Kind != methodMissing })
	return len(u.Authenticators) != before || u.Authenticator(id) == nil && u.MustEnrol()
}

func (u *User) loseAuthenticators(now time.Time, lost func(*Authenticator) bool) {
	factor := func(a Authenticator) bool {
		return a.Kind == methodMissing || methods[a.Kind].second && a.Kind != MethodRecoveryCode
	}
	had := slices.ContainsFunc(u.Authenticators, factor)
	u.Authenticators = slices.DeleteFunc(u.Authenticators, func(a Authenticator) bool { return lost(&a) })
	if had && !slices.ContainsFunc(u.Authenticators, factor) {
		u.Authenticators = append(u.Authenticators, Authenticator{ID: storage.NewID(), Kind: methodMissing, CreatedAt: now})
	}
}

// Methods returns the authenticators of the user.
func (u *User) Methods() []Authenticator {
	return slices.DeleteFunc(slices.Clone(u.Authenticators), func(a Authenticator) bool { return a.Kind == methodMissing })
}

package identity

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/mail"
	"github.com/valetkey/valetkey/storage"
)

// RequestReset sends a message with which a user can choose a new password, and returns the public name of
// the request. The error is that of sendToAccount.
//
// Each place from which an account was used has its own budget of messages, and all others share
// one. A stranger who uses that up locks no one out: messages stay valid for longer than it takes
// until the next one is sent, so there is always a valid message in the user's mailbox.
func (a *Accounts) RequestReset(ctx context.Context, now time.Time, r MailRequest) (request string, err error) {
	return a.sendToAccount(ctx, now, r, accountMail{
		purpose: PurposeReset, kind: mail.KindReset, lifetime: resetLifetime, event: event.PasswordResetRequested,
		take: func(from *place) bool { return takeShared(ctx, a.limits.resets, now, from.total) == 0 },
		refuses: func(user *User) string {
			switch {
			case user.suspended():
				return failureReason(user)
			case user.PasswordHash == "" && user.Account.LockedAt.IsZero() && !a.recoversWithCode(user):
				return event.ReasonNoPassword
			}
			return ""
		},
	})
}

// PasswordReset chooses a new password with a proof.
type PasswordReset struct {
	Proof    *Proof
	Password string
	Activity Activity
}

// Format keeps the password out of logs and messages.
func (r PasswordReset) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[new password]") }

// LogValue keeps the password out of structured logs.
func (r PasswordReset) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(r)) }

// ResetPassword sets a new password. Everything that was issued to the user ends: sessions, codes
// and tokens, other proofs, and remembered devices. It does not sign the user in, so a second
// factor is still required. The error is ErrProofOver, *WeakPasswordError, ErrPasswordTooLong,
// ErrBusy or an internal error.
func (a *Accounts) ResetPassword(ctx context.Context, now time.Time, r PasswordReset) error {
	user, hash, err := a.newPasswordHash(ctx, r)
	if err != nil {
		return err
	}
	err = a.store.UpdateUser(described(asUser(ctx, user), "password.reset"), user.ID, func(stored *User) error {
		// The address or the password was changed since the message was sent: by this link, perhaps.
		if stored.suspended() || !stored.EmailVerified() || stored.Email() != r.Proof.Email ||
			subtle.ConstantTimeCompare(hashOf("password", stored.PasswordHash), r.Proof.data.Password) != 1 {
			return ErrProofOver
		}
		stored.recovering(now)
		stored.PasswordHash, stored.UpdatedAt = hash, now
		stored.unlock(now)
		stored.AddEvent(now, r.Activity.event(EventPasswordReset, ""))
		stored.End(now, nil)
		*user = *stored
		return nil
	})
	if errors.Is(err, ErrProofOver) || errors.Is(err, storage.ErrNotFound) {
		return ErrProofOver
	}
	if err != nil {
		return fmt.Errorf("store the new password: %w", err)
	}
	if err := a.spend(ctx, now, r.Proof); err != nil && !errors.Is(err, ErrProofOver) { // it has ended with the rest
		return err
	}
	a.forgetChanges(now, user.ID)
	a.events.Record(ctx, event.PasswordReset, named(user))
	a.notify(ctx, now, user, a.passwordNotice(r.Activity, now))
	return nil
}

func (a *Accounts) passwordNotice(from Activity, now time.Time) mail.Message {
	m := from.message(mail.KindPasswordChanged, now)
	m.Path = a.pages.Forgot
	return m
}

// newPasswordHash checks and hashes the password that the user of a proof has chosen. The error is one of
// those of ResetPassword.
func (a *Accounts) newPasswordHash(ctx context.Context, r PasswordReset) (*User, string, error) {
	user, err := a.AnyUser(ctx, r.Proof.User)
	if errors.Is(err, storage.ErrNotFound) || err == nil && user.suspended() {
		return nil, "", ErrProofOver
	}
	if err != nil {
		return nil, "", fmt.Errorf("replace a password: %w", err)
	}
	if err := a.checkNewPassword(ctx, r.Password, user); err != nil {
		return nil, "", err
	}
	hash, err := a.HashPassword(ctx, r.Password)
	return user, hash, err
}

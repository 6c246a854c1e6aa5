package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/ratelimit"
	"github.com/valetkey/valetkey/mail"
	"github.com/valetkey/valetkey/storage"
)

// PasswordChange is a user's request to change the password.
type PasswordChange struct {
	UserID       string
	Current, New string
	// Session is the public name of the session that sent the request. With EndOthers,
	// everything else that was issued to the user ends: other sessions, and all codes and tokens
	// of clients that were not issued in this session.
	Session   string
	EndOthers bool
	Activity  Activity
}

// ChangePassword changes the password of a user who knows the current one. The error is
// ErrWrongCredentials, *ThrottledError, ErrBusy, ErrPasswordTooLong, *WeakPasswordError or an
// internal error.
func (a *Accounts) ChangePassword(ctx context.Context, now time.Time, change PasswordChange) error {
	user, err := a.User(ctx, change.UserID)
	if err != nil {
		return fmt.Errorf("change a password: %w", err)
	}
	if err := a.proveAgain(ctx, now, user, change.Current); err != nil {
		return err
	}
	if err := a.checkNewPassword(ctx, change.New, user); err != nil {
		return err
	}
	hash, err := a.HashPassword(ctx, change.New)
	if err != nil {
		return err
	}
	kept, err := a.SessionByID(ctx, now, change.Session)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	err = a.store.UpdateUser(ctx, user.ID, func(stored *User) error {
		if !stored.Active() || stored.PasswordHash != user.PasswordHash {
			return ErrWrongCredentials // changed concurrently
		}
		stored.PasswordHash, stored.UpdatedAt = hash, now
		stored.AddEvent(now, change.Activity.event(EventPasswordChanged, ""))
		if change.EndOthers {
			stored.End(now, kept)
		}
		return nil
	})
	if errors.Is(err, ErrWrongCredentials) {
		return ErrWrongCredentials
	}
	if err != nil {
		return fmt.Errorf("store the new password: %w", err)
	}
	a.events.Record(ctx, event.PasswordChanged, named(user))
	a.notify(ctx, now, user, a.passwordNotice(change.Activity, now))
	if change.EndOthers {
		a.events.Record(ctx, event.SessionsAllEnded, named(user))
	}
	return nil
}

// RemovePassword removes the password of a user who can sign in without it, and notifies the user. The
// notice has no link that undoes it: whoever reads the mailbox could then choose a new password. The error
// is *ThrottledError, ErrLastMethod, storage.ErrNotFound or an internal error. The caller has made sure
// that the user has just proved another method.
func (a *Accounts) RemovePassword(ctx context.Context, now time.Time, userID string, from Activity) error {
	if err := a.takeChange(ctx, now, userID); err != nil {
		return err
	}
	var user User
	err := a.store.UpdateUser(ctx, userID, func(stored *User) error {
		if !stored.Active() {
			return storage.ErrNotFound
		}
		if !a.CanRemovePassword(stored) {
			return ErrLastMethod
		}
		stored.PasswordHash, stored.UpdatedAt = "", now
		stored.AddEvent(now, from.event(EventPasswordRemoved, ""))
		user = *stored.Clone()
		return nil
	})
	if errors.Is(err, ErrLastMethod) || errors.Is(err, storage.ErrNotFound) {
		return err
	}
	if err != nil {
		return fmt.Errorf("remove a password: %w", err)
	}
	a.events.Record(ctx, event.MethodRemoved, named(&user), slog.String("method", string(MethodPassword)))
	m := from.message(mail.KindPasswordRemoved, now)
	m.Path = a.pages.Account
	a.notify(ctx, now, &user, m)
	return nil
}

// CanRemovePassword reports whether a user has a password and can sign in without it. Operators set and
// remove those that they declare.
func (a *Accounts) CanRemovePassword(u *User) bool {
	without := *u
	without.PasswordHash = ""
	return u.PasswordHash != "" && u.DeclaredPassword == "" && a.CanSignIn(&without)
}

// ProvePasswordAgain checks the password of a signed-in user, for a change of the account. The error is
// ErrWrongCredentials, *ThrottledError, ErrBusy, ErrPasswordTooLong or an internal error.
func (a *Accounts) ProvePasswordAgain(ctx context.Context, now time.Time, user *User, password string) error {
	return a.proveAgain(ctx, now, user, password)
}

// proveAgain checks the password of a signed-in user. The error is ErrWrongCredentials,
// *ThrottledError, ErrBusy, ErrPasswordTooLong or an internal error. user is updated if the hash is
// replaced.
func (a *Accounts) proveAgain(ctx context.Context, now time.Time, user *User, password string) error {
	// Only signed-in users get here, so strangers cannot use up this budget, and the holder of a
	// stolen session cannot guess without limit.
	return a.proveWithin(ctx, now, ratelimit.NewKey("change", user.ID), user, password)
}

// proveWithin is proveAgain with a budget of its own.
func (a *Accounts) proveWithin(ctx context.Context, now time.Time, key ratelimit.Key, user *User, password string) error {
	if len(password) > MaxPasswordBytes {
		return ErrPasswordTooLong
	}
	from := place{pace: key, total: key, reserved: true, owner: user.ID}
	if wait := a.limits.take(ctx, now, &from); wait > 0 {
		refused := throttled(wait)
		a.events.Record(ctx, event.PasswordChangeFailed, named(user), slog.String("reason", event.ReasonThrottled), slog.Duration("retry_after", refused.RetryAfter))
		return refused
	}
	ok, err := a.proves(ctx, now, user, password, &from)
	if err != nil {
		a.limits.undo(now, &from)
		return err
	}
	if !ok {
		a.events.Record(ctx, event.PasswordChangeFailed, named(user), slog.String("reason", failureReason(user)))
		return ErrWrongCredentials
	}
	a.limits.succeeded(now, &from)
	return nil
}

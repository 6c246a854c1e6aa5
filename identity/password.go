package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/ratelimit"
	"github.com/valetkey/valetkey/storage"
)

// PasswordChange is a person's wish for another password.
type PasswordChange struct {
	UserID       string
	Current, New string
	// Session is the public name of the session that the wish came from. With EndOthers
	// everything else ends that was issued to the user: other sessions, and the codes and
	// tokens of clients that were not issued in this one.
	Session   string
	EndOthers bool
}

// ChangePassword gives a person who knows the current password another one. The error is
// ErrWrongCredentials, *ThrottledError, ErrBusy, ErrPasswordTooLong, a *WeakPasswordError,
// or a fault.
func (a *Accounts) ChangePassword(ctx context.Context, now time.Time, change PasswordChange) error {
	if len(change.Current) > MaxPasswordBytes {
		return ErrPasswordTooLong
	}
	user, err := a.User(ctx, change.UserID)
	if err != nil {
		return fmt.Errorf("change a password: %w", err)
	}
	// Only somebody with a session comes here, so strangers cannot use up this budget,
	// and somebody with a stolen one cannot guess at will.
	key := ratelimit.NewKey("change", user.ID)
	from := place{pace: key, total: key, reserved: true, owner: user.ID}
	if wait := a.limits.take(ctx, now, &from); wait > 0 {
		refused := throttled(wait)
		a.events.Record(ctx, event.PasswordChangeFailed, named(user), slog.String("reason", event.ReasonThrottled), slog.Duration("retry_after", refused.RetryAfter))
		return refused
	}
	ok, err := a.proves(ctx, now, user, change.Current, &from)
	if err != nil {
		a.limits.undo(now, &from)
		return err
	}
	if !ok {
		a.events.Record(ctx, event.PasswordChangeFailed, named(user), slog.String("reason", whyNot(user)))
		return ErrWrongCredentials
	}
	a.limits.succeeded(now, &from)
	if err := CheckPassword(change.New, user); err != nil {
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
			return ErrWrongCredentials // by now
		}
		stored.PasswordHash, stored.UpdatedAt = hash, now
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
	if change.EndOthers {
		a.events.Record(ctx, event.SessionsAllEnded, named(user))
	}
	return nil
}

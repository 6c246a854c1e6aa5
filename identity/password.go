package identity

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/valetkey/valetkey/storage"
)

// PasswordChange is a person's wish for another password.
type PasswordChange struct {
	UserID       string
	Current, New string
	// Session is the public name of the session that the wish came from. With EndOthers
	// all other sessions end.
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
	key := "change:" + user.ID
	if wait := a.byAccount.take(now, key); wait > 0 {
		return &ThrottledError{(wait + time.Second - 1).Truncate(time.Second)}
	}
	ok, err := a.proves(ctx, now, user, change.Current)
	if err != nil {
		a.byAccount.giveBack(key)
		return err
	}
	if !ok {
		a.logger.WarnContext(ctx, "password not changed: the current one was wrong", "event", EventPasswordChangeFailed, "user", user.ID)
		return ErrWrongCredentials
	}
	a.byAccount.forget(key)
	if err := CheckPassword(change.New, user); err != nil {
		return err
	}
	hash, err := a.HashPassword(ctx, change.New)
	if err != nil {
		return err
	}
	if user, err = a.User(ctx, user.ID); err != nil {
		return fmt.Errorf("change a password: %w", err)
	}
	user.PasswordHash, user.UpdatedAt = hash, now
	if err := a.store.PutUser(ctx, user); err != nil {
		return fmt.Errorf("store the new password: %w", err)
	}
	a.logger.InfoContext(ctx, "password changed", "event", EventPasswordChanged, "user", user.ID)
	if change.EndOthers {
		return a.endOtherSessions(ctx, now, user.ID, change.Session)
	}
	return nil
}

// endOtherSessions ends all sessions of a person but one, however many there are.
func (a *Accounts) endOtherSessions(ctx context.Context, now time.Time, userID, keep string) error {
	kept := []string{keep}
	if session, err := a.SessionByID(ctx, now, keep); err == nil {
		kept = append(kept, session.former...)
	} else if !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	if err := a.endSessionsBut(ctx, now, userID, kept); err != nil {
		return err
	}
	a.logger.InfoContext(ctx, "all other sessions ended", "event", EventSessionsEnded, "user", userID)
	if err := a.store.DeleteFamily(ctx, SessionFamily(userID), kindDevice); err != nil {
		return fmt.Errorf("forget devices: %w", err)
	}
	return nil
}

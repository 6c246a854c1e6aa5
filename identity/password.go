package identity

import (
	"context"
	"fmt"
	"time"
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
	for {
		sessions, err := a.Sessions(ctx, now, userID)
		if err != nil {
			return err
		}
		others := 0
		for _, session := range sessions {
			if session.ID == keep {
				continue
			}
			others++
			if err := a.EndSession(ctx, session.ID); err != nil {
				return err
			}
		}
		if others == 0 || len(sessions) < maxSessions {
			break
		}
	}
	if err := a.store.DeleteFamily(ctx, SessionFamily(userID), kindDevice); err != nil {
		return fmt.Errorf("forget devices: %w", err)
	}
	return nil
}

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

// DirectoryUser is a user of a directory who is said to sign in with the password there. Package
// identity/directory finds them. Account is not set if the directory has no such user.
type DirectoryUser struct {
	Provider string
	// Issuer and Subject are as in ExternalUser. Subject is "" if the directory tells it only to the
	// user.
	Issuer, Subject string
	// Account names the account in the limits: the same for every name of the user. Unknown is what was
	// typed, if there is none.
	Account, Unknown string
	// Failures limits the wrong passwords that reach the directory, so that nobody locks the account
	// there by guessing here.
	Failures *ratelimit.Limiter
	// Verify checks the password. The error is ErrWrongCredentials, *DirectoryRefusedError,
	// ErrDirectoryUnavailable or an internal error.
	Verify func(ctx context.Context, password string) (ExternalSignIn, error)
}

// Format keeps what was typed out of logs and messages.
func (u DirectoryUser) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[user of a directory]") }

// LogValue keeps what was typed out of structured logs.
func (u DirectoryUser) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(u)) }

// ErrDirectoryUnavailable means that a directory that the user could be in did not respond.
var ErrDirectoryUnavailable = errors.New("identity: a directory is not available")

// DirectoryReason is why a directory does not let a user in.
type DirectoryReason string

// The reasons.
const (
	DirectoryDisabled        DirectoryReason = "disabled"
	DirectoryLocked          DirectoryReason = "locked"
	DirectoryExpired         DirectoryReason = "expired"
	DirectoryPasswordExpired DirectoryReason = "password_expired"
)

// DirectoryRefusedError means that the directory does not let a user in. With
// DirectoryPasswordExpired the password was right.
type DirectoryRefusedError struct{ Reason DirectoryReason }

func (e *DirectoryRefusedError) Error() string {
	return "identity: the directory refuses the user: " + string(e.Reason)
}

// failedQuantum is the unit of the time that a failed sign-in takes if there are directories. It hides
// whether a directory has the user, and whether it was asked.
const failedQuantum = 500 * time.Millisecond

// SignInWithPassword is like Authenticate, and also checks the passwords of users of directories
// (attempt.Directories) if the password is not that of a local account. external is set if the user
// has signed in at a directory. Nobody gets from one to the other: a directory's password only opens
// the account that is linked with that user of the directory, whatever name was typed.
//
// The error is one of those of Authenticate and SignInExternal, ErrDirectoryUnavailable, or
// *DirectoryRefusedError with DirectoryPasswordExpired.
func (a *Accounts) SignInWithPassword(ctx context.Context, now time.Time, attempt Attempt) (user *User, external *ExternalUser, err error) {
	if attempt.Directories == nil {
		user, err = a.Authenticate(ctx, now, attempt)
		return user, nil, err
	}
	if len(attempt.Password) > MaxPasswordBytes {
		return nil, nil, ErrPasswordTooLong
	}
	began := time.Now()
	user, external, err = a.signInWithPassword(ctx, now, attempt)
	if err != nil {
		wait := time.NewTimer(failedQuantum - time.Since(began)%failedQuantum)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-ctx.Done():
		}
	}
	return user, external, err
}

func (a *Accounts) signInWithPassword(ctx context.Context, now time.Time, attempt Attempt) (*User, *ExternalUser, error) {
	at, err := a.beginAttempt(ctx, now, attempt)
	if err != nil {
		return nil, nil, err
	}
	if !attempt.DirectoryOnly {
		ok, err := a.proves(ctx, now, at.user, attempt.Password, &at.from)
		if err != nil {
			a.limits.undo(now, &at.from)
			return nil, nil, err
		}
		if ok {
			user, err := a.passwordProved(ctx, now, attempt, at)
			return user, nil, err
		}
	}
	signIn, err := a.atDirectories(ctx, now, attempt, attempt.Directories(ctx))
	if err != nil {
		reason := failureReason(at.user)
		if refused, ok := errors.AsType[*DirectoryRefusedError](err); ok {
			reason = string(refused.Reason)
			if refused.Reason != DirectoryPasswordExpired {
				err = ErrWrongCredentials
			}
		}
		if errors.Is(err, ErrDirectoryUnavailable) {
			reason = event.ReasonDirectory
		}
		if errors.Is(err, errNotAlone) {
			// It counts as a failure: the limits must not tell that the password was right.
			reason, err = event.ReasonSecondFactor, ErrWrongCredentials
		}
		a.events.Record(ctx, event.SignInFailed, at.who, slog.String("reason", reason), event.Address(attempt.Remote))
		return nil, nil, err
	}
	a.limits.succeeded(now, &at.from)
	signIn.Remote = attempt.Remote
	user, err := a.SignInExternal(ctx, now, signIn)
	if err == nil && attempt.Alone {
		a.SignInCompleted(ctx, now, user, attempt.Remote)
	}
	return user, signIn.User, err
}

// atDirectories checks a password at directories, in order. Each attempt counts before it reaches the
// directory. The error is the one that says most: ErrDirectoryUnavailable, *DirectoryRefusedError,
// *ThrottledError, ErrWrongCredentials, or an internal error.
func (a *Accounts) atDirectories(ctx context.Context, now time.Time, attempt Attempt, users []DirectoryUser) (ExternalSignIn, error) {
	result := error(ErrWrongCredentials)
	var wait time.Duration
	for _, u := range users {
		account := "directory:" + u.Issuer + "\x00" + u.Account
		if u.Account == "" {
			account = "unknown:" + u.Issuer + "\x00" + mask(a.countKey, u.Unknown)
		}
		if u.Subject != "" {
			linked, err := a.store.UserByExternal(ctx, u.Issuer, u.Subject)
			switch {
			case err == nil:
				account = linked.ID
			case !errors.Is(err, storage.ErrNotFound):
				return ExternalSignIn{}, err
			}
		}
		from, err := a.placeOf(ctx, now, account, attempt)
		if err != nil {
			return ExternalSignIn{}, err
		}
		u.Failures.Load(ctx, now, from.total)
		if w := u.Failures.Take(now, from.total); w > 0 {
			wait = max(wait, w)
			continue
		}
		signIn, err := u.Verify(ctx, attempt.Password)
		if err == nil && attempt.Alone {
			err = a.checkAlone(ctx, signIn.User)
		}
		refused, isRefused := errors.AsType[*DirectoryRefusedError](err)
		switch {
		case err == nil:
			u.Failures.Forget(now, from.total)
			return signIn, nil
		case errors.Is(err, ErrWrongCredentials):
		case errors.Is(err, errNotAlone):
			return ExternalSignIn{}, err
		case isRefused && refused.Reason == DirectoryPasswordExpired:
			u.Failures.Undo(now, from.total)
			return ExternalSignIn{}, err
		case isRefused:
			result = err
		default:
			u.Failures.Undo(now, from.total)
			if !errors.Is(err, ErrDirectoryUnavailable) && !errors.Is(err, ErrBusy) {
				a.logger.ErrorContext(ctx, "sign-in at a directory failed", "directory", u.Provider, "error", err)
			}
			result = ErrDirectoryUnavailable
		}
	}
	if wait > 0 && errors.Is(result, ErrWrongCredentials) {
		return ExternalSignIn{}, throttled(wait)
	}
	return ExternalSignIn{}, result
}

// errNotAlone means that the password was right and is not enough.
var errNotAlone = errors.New("identity: the user needs a second factor")

// checkAlone returns errNotAlone for a user whose account needs a second factor.
func (a *Accounts) checkAlone(ctx context.Context, e *ExternalUser) error {
	linked, err := a.store.UserByExternal(ctx, e.Issuer, e.Subject)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return nil
	case err != nil:
		return err
	case linked.NeedsSecondFactor():
		return errNotAlone
	}
	return nil
}

// VerifyAtDirectory checks the password at a directory that a signed-in user has typed: to link the two,
// or to confirm a change of the account. The error is one of those of SignInWithPassword.
func (a *Accounts) VerifyAtDirectory(ctx context.Context, now time.Time, user *User, attempt Attempt, at DirectoryUser) (ExternalSignIn, error) {
	if len(attempt.Password) > MaxPasswordBytes {
		return ExternalSignIn{}, ErrPasswordTooLong
	}
	key := ratelimit.NewKey("change", user.ID)
	from := place{pace: key, total: key, reserved: true, owner: user.ID}
	if wait := a.limits.take(ctx, now, &from); wait > 0 {
		return ExternalSignIn{}, throttled(wait)
	}
	signIn, err := a.atDirectories(ctx, now, attempt, []DirectoryUser{at})
	if err != nil {
		if refused, ok := errors.AsType[*DirectoryRefusedError](err); ok && refused.Reason != DirectoryPasswordExpired {
			err = ErrWrongCredentials
		}
		a.events.Record(ctx, event.PasswordChangeFailed, named(user), slog.String("reason", event.ReasonDirectory))
		return ExternalSignIn{}, err
	}
	a.limits.succeeded(now, &from)
	signIn.Remote = attempt.Remote
	return signIn, nil
}

package identity

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/storage"
)

// ErrWrongCredentials means that the identifier or password is wrong. It is the same for a user
// who does not exist, is disabled or has no password.
var ErrWrongCredentials = errors.New("identity: wrong username or password")

// ThrottledError means that too many attempts failed for this account or from this address. The
// attempt was not evaluated.
type ThrottledError struct {
	// RetryAfter is how long to wait, in whole seconds.
	RetryAfter time.Duration
}

func (e *ThrottledError) Error() string {
	return fmt.Sprintf("identity: too many attempts, try again in %v", e.RetryAfter)
}

// Attempt is an attempt to sign in with a password.
type Attempt struct {
	// Identifier is a username or an email address, as typed.
	Identifier string
	Password   string
	// Remote is the address that the attempt came from.
	Remote netip.Addr
	// Device is the result of DeviceCookie. A device on which this user signed in before is not
	// slowed down by attempts from elsewhere.
	Device string
	// Alone is set if nothing but the password will be asked for. Users with a second factor then fail,
	// as with a wrong password.
	Alone bool
	// Directories finds the users of directories whom the identifier names, for SignInWithPassword; nil
	// if there are no directories. DirectoryOnly is set if the identifier is that of no local account.
	Directories   func(ctx context.Context) []DirectoryUser
	DirectoryOnly bool
}

// Authenticate authenticates a username and password. The error is ErrWrongCredentials,
// *ThrottledError, ErrBusy, ErrPasswordTooLong or an internal error.
func (a *Accounts) Authenticate(ctx context.Context, now time.Time, attempt Attempt) (*User, error) {
	if len(attempt.Password) > MaxPasswordBytes {
		return nil, ErrPasswordTooLong
	}
	at, err := a.beginAttempt(ctx, now, attempt)
	if err != nil {
		return nil, err
	}
	ok, err := a.proves(ctx, now, at.user, attempt.Password, &at.from)
	if err != nil {
		a.limits.undo(now, &at.from)
		return nil, err
	}
	if !ok {
		a.events.Record(ctx, event.SignInFailed, at.who, slog.String("reason", failureReason(at.user)), event.Address(attempt.Remote))
		return nil, ErrWrongCredentials
	}
	return a.passwordProved(ctx, now, attempt, at)
}

// counted is an attempt that was counted. user is nil if there is none with the identifier.
type counted struct {
	user *User
	from place
	who  slog.Attr
}

// beginAttempt counts an attempt before it is evaluated. The error is *ThrottledError or an internal
// error.
func (a *Accounts) beginAttempt(ctx context.Context, now time.Time, attempt Attempt) (*counted, error) {
	user, err := a.find(ctx, attempt.Identifier)
	if err != nil {
		return nil, fmt.Errorf("find the user who signs in: %w", err)
	}
	at := &counted{user: user}
	account := "unknown:" + mask(a.countKey, attempt.Identifier)
	at.who = slog.String("unknown_account", mask(a.logKey, attempt.Identifier)[:8])
	if user != nil {
		account, at.who = user.ID, named(user)
	}
	if at.from, err = a.placeOf(ctx, now, account, attempt); err != nil {
		return nil, err
	}
	if wait := a.limits.take(ctx, now, &at.from); wait > 0 {
		refused := throttled(wait)
		a.events.Record(ctx, event.SignInThrottled, at.who, slog.Duration("retry_after", refused.RetryAfter), event.Address(attempt.Remote))
		return nil, refused
	}
	return at, nil
}

// passwordProved continues after the right password.
func (a *Accounts) passwordProved(ctx context.Context, now time.Time, attempt Attempt, at *counted) (*User, error) {
	if at.user.NeedsSecondFactor() {
		if attempt.Alone {
			// It counts as a failure: the limits must not tell that the password was right.
			a.events.Record(ctx, event.SignInFailed, at.who, slog.String("reason", event.ReasonSecondFactor), event.Address(attempt.Remote))
			return nil, ErrWrongCredentials
		}
		a.limits.succeeded(now, &at.from)
		return at.user, nil
	}
	a.limits.succeeded(now, &at.from)
	a.SignInCompleted(ctx, now, at.user, attempt.Remote)
	return at.user, nil
}

// SignInCompleted is called when a user has signed in with more than a password, or without one:
// Authenticate calls it for a password that is enough.
func (a *Accounts) SignInCompleted(ctx context.Context, now time.Time, user *User, remote netip.Addr) {
	if err := a.rememberNetwork(ctx, now, user.ID, remote); err != nil {
		// The user is authenticated. The network is remembered next time.
		a.logger.Log(ctx, event.LevelOf(ctx, err), "network of a sign-in not remembered", "user", user.ID, "error", err)
	}
	a.events.Record(ctx, event.SignInSucceeded, named(user), event.Address(remote))
}

// FindAny returns a user by username or email address, active or not; storage.ErrNotFound if there
// is none.
func (a *Accounts) FindAny(ctx context.Context, identifier string) (*User, error) {
	user, err := a.find(ctx, identifier)
	if err != nil {
		return nil, fmt.Errorf("find a user: %w", err)
	}
	if user == nil {
		return nil, storage.ErrNotFound
	}
	return user, nil
}

// find returns the user with an identifier; nil if there is none.
func (a *Accounts) find(ctx context.Context, identifier string) (*User, error) {
	canonical, err := CanonicalIdentifier(identifier)
	if err != nil {
		return nil, nil
	}
	user, err := a.store.UserByIdentifier(ctx, canonical)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	return user, err
}

// proves reports whether the password is the user's. It computes one hash of each kind in the
// database for every user, including nil, and another one if the hash is replaced or was changed
// concurrently. user is then updated to the stored record.
func (a *Accounts) proves(ctx context.Context, now time.Time, user *User, password string, from *place) (bool, error) {
	all, err := a.allWork(ctx)
	if err != nil {
		return false, err
	}
	turns := a.hashing
	if from.reserved {
		turns = a.reserved
	}
	if err := turns.enter(ctx, from.owner); err != nil {
		return false, err
	}
	defer turns.leave()
	hash := ""
	if user != nil {
		hash = user.PasswordHash
	}
	if !a.verifyInConstantWork(all, hash, password) || user == nil || !user.MaySignIn() {
		return false, nil
	}
	// Bytes that bcrypt ignored were not verified, so they must not become part of the password.
	if !needsRehash(hash) || truncatedByBcrypt(hash, password) {
		return true, nil
	}
	replaced, err := a.rehash(ctx, now, user, password)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return false, nil
	case err != nil:
		// The user is authenticated. The hash is replaced next time.
		a.logger.Log(ctx, event.LevelOf(ctx, err), "password hash not replaced", "user", user.ID, "error", err)
		return true, nil
	}
	return replaced || user.MaySignIn() && a.verify(user.PasswordHash, password), nil
}

// rehash replaces the hash of a password and reports whether it did: a hash that was changed
// concurrently is kept. user is updated to the stored record.
func (a *Accounts) rehash(ctx context.Context, now time.Time, user *User, password string) (replaced bool, err error) {
	verified := user.PasswordHash
	hash, err := HashPassword(password)
	if err != nil {
		return false, err
	}
	err = a.store.UpdateUser(described(asUser(ctx, user), "password.rehashed"), user.ID, func(stored *User) error {
		if replaced = stored.MaySignIn() && stored.PasswordHash == verified; replaced {
			stored.PasswordHash, stored.UpdatedAt = hash, now
		}
		*user = *stored
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("store the new hash: %w", err)
	}
	if replaced {
		a.events.Record(ctx, event.PasswordRehashed, named(user))
	}
	return replaced, nil
}

// failureReason returns why a password did not sign a user in. It is only for the log.
func failureReason(user *User) string {
	switch {
	case user == nil:
		return event.ReasonUnknown
	case user.Disabled:
		return event.ReasonDisabled
	case !user.RetiredAt.IsZero():
		return event.ReasonRetired
	case user.PasswordHash == "":
		return event.ReasonNoPassword
	}
	return event.ReasonWrongPassword
}

// named returns the log attributes that identify a user.
func named(user *User) slog.Attr {
	return event.Together(slog.String("sub", user.ID), slog.String("username", user.Username))
}

// namedByID is like named, for a user ID.
func (a *Accounts) namedByID(ctx context.Context, id string) slog.Attr {
	if user, err := a.store.User(ctx, id); err == nil {
		return named(user)
	}
	return slog.String("sub", id) // the event is logged even if the user or the database is gone
}

// mask returns a pseudonym for an identifier that reveals nothing without the key: users
// sometimes type their password into the wrong field.
func mask(key []byte, identifier string) string {
	if canonical, err := CanonicalIdentifier(identifier); err == nil {
		identifier = canonical
	}
	h := hmac.New(sha256.New, key)
	h.Write([]byte(identifier))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

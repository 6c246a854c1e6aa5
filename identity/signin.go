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

// ErrWrongCredentials says that the identifier and password do not belong together. It
// is the same for a person who does not exist, is disabled or has no password.
var ErrWrongCredentials = errors.New("identity: wrong username or password")

// ThrottledError says that too many attempts failed for this account or from this
// address. The attempt was not looked at.
type ThrottledError struct {
	// RetryAfter is how long to wait, in whole seconds.
	RetryAfter time.Duration
}

func (e *ThrottledError) Error() string {
	return fmt.Sprintf("identity: too many attempts; the next is looked at in %v", e.RetryAfter)
}

// Attempt is an attempt to sign in with a password.
type Attempt struct {
	// Identifier is a username or an e-mail address, as typed.
	Identifier string
	Password   string
	// Remote is the address that the attempt came from.
	Remote netip.Addr
	// Device is what DeviceCookie returned: a device that signed this person in before is
	// not slowed down by what others try elsewhere.
	Device string
}

// Authenticate returns the person who the attempt proves to be. The error is
// ErrWrongCredentials, *ThrottledError, ErrBusy, ErrPasswordTooLong, or a fault.
func (a *Accounts) Authenticate(ctx context.Context, now time.Time, attempt Attempt) (*User, error) {
	if len(attempt.Password) > MaxPasswordBytes {
		return nil, ErrPasswordTooLong
	}
	user, err := a.find(ctx, attempt.Identifier)
	if err != nil {
		return nil, fmt.Errorf("find the person who signs in: %w", err)
	}
	account, who := "unknown:"+mask(a.countKey, attempt.Identifier), slog.String("unknown_account", mask(a.logKey, attempt.Identifier)[:8])
	if user != nil {
		account, who = user.ID, named(user)
	}
	remote := event.Address(attempt.Remote)
	from, err := a.placeOf(ctx, now, account, attempt)
	if err != nil {
		return nil, err
	}
	if wait := a.limits.take(ctx, now, &from); wait > 0 {
		refused := throttled(wait)
		a.events.Record(ctx, event.SignInThrottled, who, slog.Duration("retry_after", refused.RetryAfter), remote)
		return nil, refused
	}
	ok, err := a.proves(ctx, now, user, attempt.Password, &from)
	if err != nil {
		a.limits.undo(now, &from)
		return nil, err
	}
	if !ok {
		a.events.Record(ctx, event.SignInFailed, who, slog.String("reason", whyNot(user)), remote)
		return nil, ErrWrongCredentials
	}
	a.limits.succeeded(now, &from)
	if err := a.rememberNetwork(ctx, now, user.ID, attempt.Remote); err != nil {
		// The person is who they say; the network is remembered next time.
		a.logger.ErrorContext(ctx, "the network of a sign-in could not be remembered", "user", user.ID, "error", err)
	}
	a.events.Record(ctx, event.SignInSucceeded, named(user), remote)
	return user, nil
}

// FindAny returns a person by a username or e-mail address, disabled or not;
// storage.ErrNotFound if there is none.
func (a *Accounts) FindAny(ctx context.Context, identifier string) (*User, error) {
	user, err := a.find(ctx, identifier)
	if err != nil {
		return nil, fmt.Errorf("find a person: %w", err)
	}
	if user == nil {
		return nil, storage.ErrNotFound
	}
	return user, nil
}

// find returns the person whom an identifier names; nil if there is none.
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

// proves reports whether the password is that of the user. It computes one hash of each kind
// that the database holds, whoever that is, nil included, and again when the hash is replaced
// by a better one or was changed meanwhile. user is then as it is stored.
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
	if !a.verifyInConstantWork(all, hash, password) || user == nil || !user.Active() {
		return false, nil
	}
	// What bcrypt did not read was not verified, so it must not become part of the password.
	if !belowNorm(hash) || cutByBcrypt(hash, password) {
		return true, nil
	}
	replaced, err := a.rehash(ctx, now, user, password)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return false, nil
	case err != nil:
		// The user is who they say; the hash is replaced next time.
		a.logger.ErrorContext(ctx, "a password hash could not be replaced by a better one", "user", user.ID, "error", err)
		return true, nil
	}
	return replaced || user.Active() && a.verify(user.PasswordHash, password), nil
}

// rehash replaces the hash of a password and reports whether it did: a hash that was changed
// meanwhile stays. user is then as it is stored.
func (a *Accounts) rehash(ctx context.Context, now time.Time, user *User, password string) (replaced bool, err error) {
	verified := user.PasswordHash
	hash, err := HashPassword(password)
	if err != nil {
		return false, err
	}
	err = a.store.UpdateUser(ctx, user.ID, func(stored *User) error {
		if replaced = stored.Active() && stored.PasswordHash == verified; replaced {
			stored.PasswordHash, stored.UpdatedAt = hash, now
		}
		*user = *stored
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("store the better hash: %w", err)
	}
	if replaced {
		a.events.Record(ctx, event.PasswordRehashed, named(user))
	}
	return replaced, nil
}

// whyNot is the reason for which a password did not sign a user in, for the log alone.
func whyNot(user *User) string {
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

// named says in the log who a user is.
func named(user *User) slog.Attr {
	return event.Together(slog.String("sub", user.ID), slog.String("username", user.Username))
}

// namedByID is named for a user who is known by ID alone.
func (a *Accounts) namedByID(ctx context.Context, id string) slog.Attr {
	if user, err := a.store.User(ctx, id); err == nil {
		return named(user)
	}
	return slog.String("sub", id) // the user is gone, or the database: the event is logged anyway
}

// mask returns a name for what was typed that says nothing about it to whoever does not have
// the key: people type their password into the wrong field.
func mask(key []byte, identifier string) string {
	if canonical, err := CanonicalIdentifier(identifier); err == nil {
		identifier = canonical
	}
	h := hmac.New(sha256.New, key)
	h.Write([]byte(identifier))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

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
	known, err := a.deviceOf(ctx, now, attempt.Device)
	if err != nil {
		return nil, fmt.Errorf("recognise the device: %w", err)
	}
	masked := a.masked(attempt.Identifier)
	account, key, who := &a.byStranger, masked, slog.String("unknown_account", masked[:8])
	switch {
	case user != nil && known == user.ID:
		account, key, who = &a.byDevice, attempt.Device, slog.String("user", user.ID)
	case user != nil:
		account, key, who = &a.byAccount, user.ID, slog.String("user", user.ID)
	}
	remote := slog.String("remote", attempt.Remote.String())
	address := network(attempt.Remote)

	wait := a.byAddress.take(now, address)
	if wait == 0 {
		if wait = account.take(now, key); wait > 0 {
			// Not evaluated, so it does not count against the neighbours.
			a.byAddress.giveBack(address)
		}
	}
	if wait > 0 {
		wait = (wait + time.Second - 1).Truncate(time.Second)
		a.logger.WarnContext(ctx, "sign-in throttled", "event", EventSignInThrottled, who, remote, "retry_after", wait)
		return nil, &ThrottledError{wait}
	}

	ok, err := a.proves(ctx, now, user, attempt.Password)
	if err != nil {
		account.giveBack(key)
		a.byAddress.giveBack(address)
		return nil, err
	}
	if !ok {
		a.logger.WarnContext(ctx, "sign-in failed", "event", EventSignInFailed, who, remote)
		return nil, ErrWrongCredentials
	}
	account.forget(key)
	a.byAddress.giveBack(address)
	a.logger.InfoContext(ctx, "signed in", "event", EventSignIn, who, remote)
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

// proves reports whether the password is that of the user. It hashes once whoever that is,
// nil included, and again when the hash is replaced by a better one or was changed meanwhile.
// user is then as it is stored.
func (a *Accounts) proves(ctx context.Context, now time.Time, user *User, password string) (bool, error) {
	if err := a.hashing.enter(ctx); err != nil {
		return false, err
	}
	defer a.hashing.leave()
	hash := a.decoy
	if user != nil && user.PasswordHash != "" {
		hash = user.PasswordHash
	}
	if !VerifyPassword(hash, password) || user == nil || !user.Active() {
		return false, nil
	}
	if !belowNorm(hash) {
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
	return replaced || user.Active() && VerifyPassword(user.PasswordHash, password), nil
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
		a.logger.InfoContext(ctx, "password hash replaced by a better one", "event", EventPasswordRehashed, "user", user.ID)
	}
	return replaced, nil
}

// masked returns a name for what was typed that says nothing about it and differs from
// process to process: people type their password into the wrong field.
func (a *Accounts) masked(identifier string) string {
	if canonical, err := CanonicalIdentifier(identifier); err == nil {
		identifier = canonical
	}
	h := hmac.New(sha256.New, a.logKey)
	h.Write([]byte(identifier))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// network is whom an address is counted with: itself for IPv4, its /64 for IPv6, of which
// anybody has plenty.
func network(addr netip.Addr) string {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		if prefix, err := addr.Prefix(64); err == nil {
			return prefix.String()
		}
	}
	return addr.String()
}

// The names of security events, in the attribute "event" of a log record.
const (
	EventSignIn               = "sign_in"
	EventSignInFailed         = "sign_in_failed"
	EventSignInThrottled      = "sign_in_throttled"
	EventSignOut              = "sign_out"
	EventSessionsEnded        = "sessions_ended"
	EventPasswordChanged      = "password_changed"
	EventPasswordChangeFailed = "password_change_failed"
	EventPasswordRehashed     = "password_rehashed"
	EventSetupStarted         = "setup_started"
	EventAdministratorCreated = "administrator_created"
	EventSignUp               = "sign_up"
	EventSignUpThrottled      = "sign_up_throttled"
)

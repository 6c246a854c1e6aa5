package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/ratelimit"
	"github.com/valetkey/valetkey/storage"
)

// InvalidUserError is the reason why a record cannot be stored, in words for its author.
type InvalidUserError struct{ Reason error }

func (e *InvalidUserError) Error() string { return e.Reason.Error() }
func (e *InvalidUserError) Unwrap() error { return e.Reason }

// SignUp creates an account at a user's own request, with an unverified email address. The error
// is *ThrottledError, *WeakPasswordError, ErrPasswordTooLong, *InvalidUserError,
// ErrIdentifierTaken, ErrBusy or an internal error. It cannot hide that a name is taken, but
// limits the rate of attempts from one network.
func (a *Accounts) SignUp(ctx context.Context, now time.Time, remote netip.Addr, username, email, password string) (*User, error) {
	network := ratelimit.Network(remote)
	if wait := a.limits.signUps.Take(now, ratelimit.NewKey(network)); wait > 0 {
		refused := throttled(wait)
		a.events.Record(ctx, event.SignUpThrottled, slog.Duration("retry_after", refused.RetryAfter), event.Address(remote))
		return nil, refused
	}
	user := &User{ID: storage.NewID(), Username: username, Origin: OriginSignedUp, CreatedAt: now, UpdatedAt: now}
	if email != "" {
		user.Claims = map[string]any{"email": email, "email_verified": false}
	}
	if err := a.prepare(ctx, user, password, a.hashing, network); err != nil {
		return nil, err
	}
	err := a.store.CreateUser(ctx, user)
	if errors.Is(err, ErrIdentifierTaken) {
		return nil, ErrIdentifierTaken // by a concurrent sign-up
	}
	if err != nil {
		return nil, fmt.Errorf("store a new user: %w", err)
	}
	a.events.Record(ctx, event.SignUpSucceeded, named(user), event.Address(remote))
	return user, nil
}

// prepare checks a new user's record and password, and stores the hash of the password in the
// record, computed in the owner's turn.
func (a *Accounts) prepare(ctx context.Context, user *User, password string, turns *hashTurns, owner string) error {
	if err := user.Check(); err != nil {
		return &InvalidUserError{err}
	}
	for _, identifier := range user.Identifiers() {
		if other, err := a.find(ctx, identifier); err != nil {
			return fmt.Errorf("look for a user with that name: %w", err)
		} else if other != nil {
			return ErrIdentifierTaken
		}
	}
	if err := CheckPassword(password, user); err != nil {
		return err
	}
	var err error
	user.PasswordHash, err = hashInTurn(ctx, turns, owner, password)
	return err
}

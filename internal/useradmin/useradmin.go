// Package useradmin finds, changes and revokes the users of a database, whether or not a
// server is running on it.
package useradmin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/sqldb"
)

// ErrNotFound means that there is no user with a username, email address or sub.
var ErrNotFound = errors.New("there is no such user")

// User is a user with what belongs to it.
type User struct {
	identity.User
	// Source is the source that declares the user; "" if none does.
	Source string
	// Sessions is the number of sessions, and Clients are the client_ids of the applications
	// that the user has granted access.
	Sessions int
	Clients  []string
}

// Find returns the user with a username, email address or sub. The error is ErrNotFound if there
// is none.
func Find(ctx context.Context, store *sqldb.Store, name string) (*User, error) {
	accounts, err := accountsOf(store, identity.Recovery{})
	if err != nil {
		return nil, err
	}
	user, err := accounts.FindAny(ctx, name)
	if errors.Is(err, storage.ErrNotFound) {
		user, err = accounts.AnyUser(ctx, name)
	}
	if errors.Is(err, storage.ErrNotFound) {
		return nil, fmt.Errorf("%q: %w", name, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	details := &User{User: *user}
	if details.Source, err = store.UserSource(ctx, user.ID); err != nil {
		return nil, err
	}
	sessions, err := accounts.Sessions(ctx, time.Now(), user.ID)
	if err != nil {
		return nil, err
	}
	details.Sessions = len(sessions)
	grants, err := store.GrantsOf(ctx, user.ID)
	if err != nil {
		return nil, fmt.Errorf("list grants: %w", err)
	}
	for _, grant := range grants {
		details.Clients = append(details.Clients, grant.ClientID)
	}
	return details, nil
}

func accountsOf(store *sqldb.Store, recovery identity.Recovery) (*identity.Accounts, error) {
	accounts, err := identity.New(identity.Config{Store: store, Recovery: recovery, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, fmt.Errorf("set up accounts: %w", err)
	}
	return accounts, nil
}

// SetDisabled disables a user, by sub, or enables the user again. Disabling ends all sessions,
// codes and tokens immediately, on all servers that use the store; enabling does not restore them. A
// server that has the user in memory sees the change within a second.
func SetDisabled(ctx context.Context, store *sqldb.Store, sub string, disabled bool) error {
	return changeUser(ctx, store, sub, func(u *identity.User, now time.Time) {
		u.Disabled, u.UpdatedAt = disabled, now
	})
}

// SetPassword sets the password of a user, by sub, and ends every session, code and token. The
// error is an *identity.WeakPasswordError if the password is too weak.
func SetPassword(ctx context.Context, store *sqldb.Store, sub, password string) error {
	accounts, err := accountsOf(store, identity.Recovery{})
	if err != nil {
		return err
	}
	user, err := accounts.AnyUser(ctx, sub)
	if errors.Is(err, storage.ErrNotFound) {
		return fmt.Errorf("%q: %w", sub, ErrNotFound)
	}
	if err != nil {
		return err
	}
	if err := identity.CheckPassword(password, user); err != nil {
		return err
	}
	hash, err := identity.HashPassword(password)
	if err != nil {
		return fmt.Errorf("hash the password: %w", err)
	}
	return changeUser(ctx, store, sub, func(u *identity.User, now time.Time) {
		u.PasswordHash, u.UpdatedAt = hash, now
		u.End(now, nil)
	})
}

func changeUser(ctx context.Context, store *sqldb.Store, sub string, change func(*identity.User, time.Time)) error {
	err := store.UpdateUser(ctx, sub, func(u *identity.User) error {
		change(u, time.Now())
		return nil
	})
	if errors.Is(err, storage.ErrNotFound) {
		return fmt.Errorf("%q: %w", sub, ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("change the user: %w", err)
	}
	return nil
}

// Revoke ends every session of a user, by username or email address, and revokes all access that
// the user has granted to applications. It takes effect immediately on all servers that use the
// store, and they notify the applications.
func Revoke(ctx context.Context, store *sqldb.Store, name string) error {
	accounts, err := accountsOf(store, identity.Recovery{})
	if err != nil {
		return err
	}
	user, err := accounts.FindAny(ctx, name)
	if errors.Is(err, storage.ErrNotFound) {
		return fmt.Errorf("%q: %w", name, ErrNotFound)
	}
	if err != nil {
		return err
	}
	if err := accounts.EndSessions(ctx, time.Now(), user.ID); err != nil {
		return err
	}
	return authserver.RevokeSubject(ctx, store, user.ID)
}

// HashPassword returns a password in the form of password_hash: argon2id in PHC string format.
func HashPassword(password string) (string, error) {
	if password == "" {
		return "", errors.New("the password is empty")
	}
	if len(password) > identity.MaxPasswordBytes {
		return "", identity.ErrPasswordTooLong
	}
	return identity.HashPassword(password)
}

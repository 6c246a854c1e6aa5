package valetkey

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/sqldb"
)

// WeakPasswordError says why a password is not good enough.
type WeakPasswordError = identity.WeakPasswordError

// UserDetails is a user with what hangs from it.
type UserDetails struct {
	identity.User
	// Source is what declares the user, such as a file; "" if nothing does.
	Source string
	// Sessions is the number of sessions, and Clients are the client_ids that the user has
	// allowed something.
	Sessions int
	Clients  []string
}

// FindUser returns the user with a username, e-mail address or sub. The error is
// ErrNoSuchUser if there is none.
func FindUser(ctx context.Context, store *sqldb.Store, name string) (*UserDetails, error) {
	accounts, err := accountsOf(store)
	if err != nil {
		return nil, err
	}
	user, err := accounts.FindAny(ctx, name)
	if errors.Is(err, storage.ErrNotFound) {
		user, err = accounts.AnyUser(ctx, name)
	}
	if errors.Is(err, storage.ErrNotFound) {
		return nil, fmt.Errorf("%q: %w", name, ErrNoSuchUser)
	}
	if err != nil {
		return nil, err
	}
	details := &UserDetails{User: *user}
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

func accountsOf(store *sqldb.Store) (*identity.Accounts, error) {
	accounts, err := identity.New(identity.Config{Store: store, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, fmt.Errorf("set up accounts: %w", err)
	}
	return accounts, nil
}

// SetUserDisabled disables a user, by sub, or enables it again. Disabling ends sessions,
// codes and tokens; enabling brings none of them back. Servers on the store see it at once.
func SetUserDisabled(ctx context.Context, store *sqldb.Store, sub string, disabled bool) error {
	return changeUser(ctx, store, sub, func(u *identity.User, now time.Time) {
		u.Disabled, u.UpdatedAt = disabled, now
	})
}

// SetUserPassword gives a user, by sub, another password, and ends every session, code and
// token. The error is a *WeakPasswordError if the password is not good enough.
func SetUserPassword(ctx context.Context, store *sqldb.Store, sub, password string) error {
	accounts, err := accountsOf(store)
	if err != nil {
		return err
	}
	user, err := accounts.AnyUser(ctx, sub)
	if errors.Is(err, storage.ErrNotFound) {
		return fmt.Errorf("%q: %w", sub, ErrNoSuchUser)
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
		return fmt.Errorf("%q: %w", sub, ErrNoSuchUser)
	}
	if err != nil {
		return fmt.Errorf("change the user: %w", err)
	}
	return nil
}

// HashPassword returns a password as password_hash takes it: argon2id in PHC string format.
func HashPassword(password string) (string, error) {
	if password == "" {
		return "", errors.New("the password is empty")
	}
	if len(password) > identity.MaxPasswordBytes {
		return "", identity.ErrPasswordTooLong
	}
	return identity.HashPassword(password)
}

// CheckPassword reports why people could not choose a password themselves.
func CheckPassword(password string) error { return identity.CheckPassword(password, &identity.User{}) }

package useradmin

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/sqldb"
)

// NewRecovery returns the URL with which a user who has lost every way to sign in gets back in.
func NewRecovery(ctx context.Context, store *database.Database, c *configuration.Configuration, user *User, lifetime time.Duration, path func(token string) string) (string, error) {
	issuer, err := url.Parse(c.Issuer)
	if err != nil || issuer.Host == "" {
		return "", fmt.Errorf("the issuer %q is not a URL", c.Issuer)
	}
	accounts, err := accountsOf(store.Store, c.Recovery.Ways())
	if err != nil {
		return "", err
	}
	token, err := accounts.NewRecovery(ctx, time.Now(), &user.User, lifetime)
	if err != nil {
		return "", err
	}
	return c.Issuer + path(token), nil
}

// ErrNoMethod means that a user has no method with an ID.
var ErrNoMethod = errors.New("the user has no method with that id")

// RemoveMethod removes an authenticator that a user, by sub, has lost, or a link to another provider,
// and ends every session, code and token. It returns the kind of the authenticator, or the name of the
// provider. The error is ErrNoMethod, identity.ErrLastMethod if a link is the last way to sign in, or an
// internal error.
func RemoveMethod(ctx context.Context, store *sqldb.Store, sub, id string) (kind string, err error) {
	accounts, err := accountsOf(store, identity.Recovery{})
	if err != nil {
		return "", err
	}
	err = store.UpdateUser(ctx, sub, func(u *identity.User) error {
		now := time.Now()
		kind = nameOf(u, id)
		if kind == "" {
			return ErrNoMethod
		}
		if err := accounts.Unlink(u, id); errors.Is(err, storage.ErrNotFound) {
			u.LoseAuthenticator(now, id)
		} else if err != nil {
			return err
		}
		u.UpdatedAt = now
		u.End(now, nil)
		return nil
	})
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return "", fmt.Errorf("%q: %w", sub, ErrNotFound)
	case errors.Is(err, ErrNoMethod), errors.Is(err, identity.ErrLastMethod):
		return "", err
	case err != nil:
		return "", fmt.Errorf("remove a method: %w", err)
	}
	return kind, nil
}

// nameOf returns the kind of an authenticator, or the provider of a link; "" if the user has neither.
func nameOf(u *identity.User, id string) string {
	for _, a := range u.Methods() {
		if a.ID == id {
			return string(a.Kind)
		}
	}
	for _, l := range u.External {
		if l.ID == id {
			return l.Provider
		}
	}
	return ""
}

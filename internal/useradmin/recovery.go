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

// RemoveMethod removes an authenticator that a user, by sub, has lost, and ends every session, code and
// token. It returns the kind of the authenticator, or ErrNoMethod.
func RemoveMethod(ctx context.Context, store *sqldb.Store, sub, id string) (kind string, err error) {
	kind = ""
	err = changeUser(ctx, store, sub, func(u *identity.User, now time.Time) {
		kind = ""
		for _, a := range u.Methods() {
			if a.ID == id {
				kind = string(a.Kind)
				u.LoseAuthenticator(now, id)
				u.UpdatedAt = now
				u.End(now, nil)
			}
		}
	})
	if err == nil && kind == "" {
		err = ErrNoMethod
	}
	return kind, err
}

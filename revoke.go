package valetkey

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

// ErrNoSuchUser says that nobody has a username or e-mail address.
var ErrNoSuchUser = errors.New("there is no such user")

// RevokeUser ends every session of a person, who is named by username or e-mail address,
// and everything that they have allowed applications. Servers on the store see it at once,
// and tell the applications.
func RevokeUser(ctx context.Context, store *sqldb.Store, name string) error {
	accounts, err := identity.New(identity.Config{Store: store, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("set up accounts: %w", err)
	}
	user, err := accounts.FindAny(ctx, name)
	if errors.Is(err, storage.ErrNotFound) {
		return fmt.Errorf("%q: %w", name, ErrNoSuchUser)
	}
	if err != nil {
		return err
	}
	if err := accounts.EndSessions(ctx, time.Now(), user.ID); err != nil {
		return err
	}
	return authserver.RevokeSubject(ctx, store, user.ID)
}

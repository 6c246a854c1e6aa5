package identity

import (
	"context"
	"fmt"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/storage"
)

// setupFamily is the ticket family of all setup tokens.
const setupFamily = "setup"

// SetupToken returns a one-time secret that is valid for a day and creates the first user, an
// administrator; "" if there are users. A server prints it when it starts.
func (a *Accounts) SetupToken(ctx context.Context, now time.Time) (string, error) {
	users, err := a.store.Users(ctx, "", 1)
	if err != nil {
		return "", fmt.Errorf("look for users: %w", err)
	}
	if len(users) > 0 {
		return "", nil
	}
	token := newSecret()
	ticket := storage.Ticket{Key: ticketkind.SetupToken.Hash(token), Family: setupFamily, Expires: now.Add(setupLifetime)}
	if err := a.store.Put(ctx, now, ticket); err != nil {
		return "", fmt.Errorf("store the setup token: %w", err)
	}
	a.events.Record(ctx, event.SetupStarted)
	return token, nil
}

// CheckSetupToken returns storage.ErrNotFound if a token is invalid or expired, or if there is
// already an administrator.
func (a *Accounts) CheckSetupToken(ctx context.Context, now time.Time, token string) error {
	done, err := a.store.HasAdministrator(ctx, "")
	if err != nil {
		return fmt.Errorf("look for an administrator: %w", err)
	}
	if done || token == "" {
		return storage.ErrNotFound
	}
	ticket, err := a.store.Get(ctx, now, ticketkind.SetupToken.Hash(token))
	if err != nil {
		return fmt.Errorf("find the setup token: %w", err)
	}
	if !ticket.Spent.IsZero() {
		return storage.ErrNotFound
	}
	return nil
}

// CreateAdministrator uses a setup token to create the first administrator. The error is that of
// CheckSetupToken, *WeakPasswordError, ErrPasswordTooLong, *InvalidUserError,
// ErrIdentifierTaken, ErrBusy or an internal error. An error before the last step leaves the
// token valid.
func (a *Accounts) CreateAdministrator(ctx context.Context, now time.Time, token, username, email, password string) (*User, error) {
	if err := a.CheckSetupToken(ctx, now, token); err != nil {
		return nil, err
	}
	user := &User{ID: storage.NewID(), Username: username, Administrator: true, Origin: OriginSetup, CreatedAt: now, UpdatedAt: now}
	if email != "" {
		user.Claims = map[string]any{"email": email, "email_verified": false}
	}
	if err := a.prepare(ctx, user, password, a.reserved, "setup"); err != nil {
		return nil, err
	}
	if err := a.store.Spend(ctx, now, []storage.Key{ticketkind.SetupToken.Hash(token)}); err != nil {
		return nil, fmt.Errorf("spend the setup token: %w", err)
	}
	if err := a.store.CreateUser(ctx, user); err != nil {
		return nil, fmt.Errorf("store the administrator: %w", err)
	}
	a.events.Record(ctx, event.SetupCompleted, named(user))
	if err := a.store.DeleteFamily(ctx, setupFamily); err != nil {
		// Harmless: tokens are invalid once there is an administrator.
		a.logger.Log(ctx, event.LevelOf(ctx, err), "setup tokens not deleted", "error", err)
	}
	return user, nil
}

package useradmin

import (
	"context"
	"slices"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/sqldb"
)

// Sessions returns the sessions of a user, by sub.
func Sessions(ctx context.Context, store *sqldb.Store, sub string) ([]identity.Session, error) {
	accounts, err := accountsOf(store, identity.Recovery{})
	if err != nil {
		return nil, err
	}
	return accounts.Sessions(ctx, time.Now(), sub)
}

// EndSession ends a session of a user, by sub, and what was issued in it. The error is
// storage.ErrNotFound if the user has no such session.
func EndSession(ctx context.Context, store *sqldb.Store, sub, id string) error {
	accounts, err := accountsOf(store, identity.Recovery{})
	if err != nil {
		return err
	}
	now := time.Now()
	sessions, err := accounts.Sessions(ctx, now, sub)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(sessions, func(s identity.Session) bool { return s.ID == id }) {
		return storage.ErrNotFound
	}
	return accounts.EndSession(ctx, now, id)
}

// EndAll ends every session, code and token of a user, by sub. What the user has allowed clients stays.
func EndAll(ctx context.Context, store *sqldb.Store, sub string) error {
	return changeUser(ctx, store, sub, func(u *identity.User, now time.Time) { u.End(now, nil) })
}

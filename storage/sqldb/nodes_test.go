package sqldb

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
	"github.com/valetkey/valetkey/storage/storagetest"
)

// nodes are two stores on one database that take turns.
type nodes struct {
	*Store
	other *Store
	turn  atomic.Int64
}

func openNodes(t testing.TB, databaseURL string) *nodes {
	return &nodes{Store: openTest(t, databaseURL), other: openTest(t, databaseURL)}
}

func (n *nodes) next() *Store {
	if n.turn.Add(1)%2 == 0 {
		return n.Store
	}
	return n.other
}

func (n *nodes) Put(ctx context.Context, now time.Time, tickets ...storage.Ticket) error {
	return n.next().Put(ctx, now, tickets...)
}

func (n *nodes) Get(ctx context.Context, now time.Time, key storage.Key) (storage.Ticket, error) {
	return n.next().Get(ctx, now, key)
}

func (n *nodes) GetAll(ctx context.Context, now time.Time, keys ...storage.Key) ([]storage.Ticket, error) {
	return n.next().GetAll(ctx, now, keys...)
}

func (n *nodes) Spend(ctx context.Context, now time.Time, spend []storage.Key, put ...storage.Ticket) error {
	return n.next().Spend(ctx, now, spend, put...)
}

func (n *nodes) Delete(ctx context.Context, keys ...storage.Key) error {
	return n.next().Delete(ctx, keys...)
}

func (n *nodes) DeleteFamily(ctx context.Context, family string, kinds ...storage.Kind) error {
	return n.next().DeleteFamily(ctx, family, kinds...)
}

func (n *nodes) DeleteGrant(ctx context.Context, id string) error {
	return n.next().DeleteGrant(ctx, id)
}

func (n *nodes) UpdateGrant(ctx context.Context, subject, clientID string, update func(*record.Grant) error) (*record.Grant, error) {
	return n.next().UpdateGrant(ctx, subject, clientID, update)
}

func (n *nodes) CreateUser(ctx context.Context, user *identity.User) error {
	return n.next().CreateUser(ctx, user)
}

func (n *nodes) DeleteUser(ctx context.Context, id string) error {
	return n.next().DeleteUser(ctx, id)
}

func (n *nodes) UpdateUser(ctx context.Context, id string, update func(*identity.User) error) error {
	return n.next().UpdateUser(ctx, id, update)
}

func (n *nodes) UpdateClient(ctx context.Context, clientID string, update func(*record.Client) error) error {
	return n.next().UpdateClient(ctx, clientID, update)
}

func (n *nodes) Reclaim(ctx context.Context, now time.Time) (int, error) {
	return n.next().Reclaim(ctx, now)
}

func (n *nodes) UpdateKeys(ctx context.Context, update func([]record.Key) ([]record.Key, error)) error {
	return n.next().UpdateKeys(ctx, update)
}

// CachedUser and UserValidity are called just after a poll.
func (n *nodes) CachedUser(ctx context.Context, id string) (*identity.User, error) {
	n.Store.users.pollNow(ctx)
	return n.Store.CachedUser(ctx, id)
}

func (n *nodes) UserValidity(ctx context.Context, id string) (identity.Validity, error) {
	n.Store.users.pollNow(ctx)
	return n.Store.UserValidity(ctx, id)
}

func (n *nodes) Version(ctx context.Context) (int64, error) { return n.next().Version(ctx) }

func TestStoreTwoNodesPostgreSQL(t *testing.T) {
	storagetest.Store(t, func(t *testing.T) storagetest.Database { return openNodes(t, postgreSQLDatabase(t)) })
}

// Two processes may share a file: the server and, for example, valetkey apply.
func TestStoreTwoNodesSQLite(t *testing.T) {
	storagetest.Store(t, func(t *testing.T) storagetest.Database { return openNodes(t, sqliteDatabase(t)) })
}

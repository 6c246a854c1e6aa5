// Package record holds what the authorization server stores for long: clients, scopes,
// resources, keys, grants and explained refusals, and the Store contract.
//
// The engine in package authserver reads and changes these records through a Store.
// storage/sqldb and storage/memory implement it; storage/storagetest tests any
// implementation. What is stored for a short time is a storage.Ticket.
package record

import (
	"context"
	"errors"
	"time"

	"github.com/valetkey/valetkey/storage"
)

// Store is the database of one issuer. A lookup that finds nothing returns
// storage.ErrNotFound. The caller may change the records that a method returns.
type Store interface {
	storage.Tickets
	storage.Outbox
	storage.Counts
	storage.Uses

	// Version returns a number that grows whenever a client, resource, scope or key changes.
	// The engine keeps those in memory and reads the version once a second, so that it sees
	// a change made on another node within that second.
	Version(ctx context.Context) (int64, error)

	Client(ctx context.Context, clientID string) (*Client, error)
	// ClientNeeds returns what clients that are not retired need, without duplicates.
	ClientNeeds(ctx context.Context) ([]ClientNeeds, error)
	// RegisterClient stores a new client that has a Registration, if there are fewer than
	// most such clients. Otherwise it first removes the oldest ones that were never used and
	// that no trusted party let register, a thousandth of most or at least one, so that
	// outsiders who register and never use clients cannot keep others out; if there are none,
	// it returns ErrTooManyClients. It returns storage.ErrExists if there is a client with that
	// ID. The version stays the same unless clients were removed, because no node can have the
	// new client in memory yet.
	RegisterClient(ctx context.Context, client *Client, most int) error
	// UpdateClient changes a client: it calls update with the current record and stores what
	// update leaves there. The record cannot change in between. update must not call the
	// store, and may be called again if the database needs another attempt. If it returns an
	// error, nothing changes and UpdateClient returns that error. The ID cannot change. The
	// version grows, unless only Registration.UnusedUntil changed. If there is no such
	// client, UpdateClient returns storage.ErrNotFound.
	//
	// If Client.Settle returns true, every ticket that belongs to a grant to the client or to
	// ClientGrant ends in the same transaction. The grants remain.
	UpdateClient(ctx context.Context, clientID string, update func(*Client) error) error
	// DeleteClient removes a client, the grants to it, and every ticket that belongs to one
	// of those. It returns no error if there is no such client.
	DeleteClient(ctx context.Context, clientID string) error

	Resources(ctx context.Context) ([]Resource, error)
	Scopes(ctx context.Context) ([]Scope, error)

	// Keys returns every key that is not deleted, including the private parts.
	Keys(ctx context.Context) ([]Key, error)
	// UpdateKeys replaces all keys with those that update returns, in one transaction during
	// which no other node changes keys. If update returns an error, nothing changes.
	UpdateKeys(ctx context.Context, update func([]Key) ([]Key, error)) error

	// Grant returns the grant of a subject to a client, GrantsOf all grants of a subject.
	Grant(ctx context.Context, subject, clientID string) (*Grant, error)
	GrantsOf(ctx context.Context, subject string) ([]Grant, error)
	// UpdateGrant changes the grant of a subject to a client, as UpdateClient does for a
	// client, and returns it. If there is none, update gets a new grant with a new ID.
	UpdateGrant(ctx context.Context, subject, clientID string, update func(*Grant) error) (*Grant, error)
	// DeleteGrant removes a grant and every ticket that belongs to it. It makes the same
	// promise as storage.Tickets.DeleteFamily about tickets that are being derived from those.
	DeleteGrant(ctx context.Context, id string) error

	// PutAndFind stores new tickets, as Put does, and then looks for what they depend on. What it
	// finds was stored at a moment after the tickets took effect: if it finds the grant, a DeleteGrant
	// of which it saw nothing finds the tickets. An error other than storage.ErrExists may mean that
	// the tickets are stored.
	PutAndFind(ctx context.Context, now time.Time, find Find, put ...storage.Ticket) (Found, error)

	// SaveTraces stores the checks of requests, and keeps at most the newest max refused and the newest
	// max accepted requests, if any of that kind are stored.
	SaveTraces(ctx context.Context, max int, traces ...Trace) error
	// Trace returns the trace with a reference.
	Trace(ctx context.Context, ref string) (*Trace, error)
}

// Find says what PutAndFind looks for.
type Find struct {
	Grant string      // the ID of a grant
	Key   storage.Key // of a ticket; zero for none
}

// Found is what PutAndFind has found.
type Found struct {
	Grant  bool            // the grant exists
	Ticket *storage.Ticket // what Get returns; nil for ErrNotFound
}

// ErrTooManyClients says that the number of clients that registered themselves has reached
// its limit.
var ErrTooManyClients = errors.New("record: too many registered clients")

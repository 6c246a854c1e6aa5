// Package storage is the contract for short-lived things: authorization codes, refresh
// tokens, interactions, used jti values, sign-in sessions. They are all Tickets. A new
// kind of ticket needs no migration, and every store keeps the same few promises, which
// storagetest checks.
package storage

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"time"
)

// ErrUnavailable says that the database is not there, does not respond in time, or has no
// room: the same may succeed later. The caller does not know whether the operation took
// effect.
var ErrUnavailable = errors.New("storage: unavailable")

// Errors of the contract. Anything else that a store returns is a fault of the store,
// after which the caller does not know whether the operation took effect.
var (
	// ErrNotFound says that there is no such record, or that it has expired.
	ErrNotFound = errors.New("storage: not found")
	// ErrExists says that a live ticket with that key is there already.
	ErrExists = errors.New("storage: exists already")
	// ErrSpent says that somebody else spent the ticket first.
	ErrSpent = errors.New("storage: spent already")
)

// Kind names what a ticket is. It is part of the key and of the hash, so that a code
// is never found as a refresh token.
type Kind string

// KindStatus is the kind of tickets that stand for what others rely on without asking, such
// as a token whose status is published in a list. A ticket of this kind outlasts its end:
// whatever would remove it before it expires, with its family, its grant or by its key,
// marks it as spent instead, at no time in particular, so that FindEnded returns it.
const KindStatus Kind = "status"

// ID is the key of a ticket within its kind: a hash, never the secret itself.
type ID [sha256.Size]byte

// Key finds a ticket.
type Key struct {
	Kind Kind
	ID   ID
}

// Hash returns the key under which a secret of a kind is stored. The secret is not
// stored at all.
func (k Kind) Hash(secret string) Key {
	h := sha256.New()
	h.Write([]byte(k))
	h.Write([]byte{0})
	h.Write([]byte(secret))
	key := Key{Kind: k}
	h.Sum(key.ID[:0])
	return key
}

// NewID returns 128 random bits in 22 characters, for records whose name is no secret
// and for secrets that live for minutes.
func NewID() string {
	var b [16]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Ticket is one short-lived thing.
type Ticket struct {
	Key
	// Grant is the grant that the ticket hangs from; "" if none. It ends with it.
	Grant string
	// Family is what began with one event and ends together: for a code and the tokens
	// that descend from it the authorization, for a sign-in session the person. "" if none.
	// A name has no control characters, except where Descendant puts one.
	Family string
	// Data is the owner's, at most MaxData bytes; a store does not look into it. It
	// holds no secret in clear.
	Data []byte
	// Expires is when the ticket stops existing for every method. Stores keep
	// milliseconds.
	Expires time.Time
	// Spent is when the ticket was spent; zero while it was not. A spent ticket stays
	// readable until it expires, so that a replay is recognised.
	Spent time.Time
}

// descendantSeparator sorts before every character of a family's name, so that a family
// and its descendants are one range of names.
const descendantSeparator = "\x1f"

// Descendant returns a family that ends with another one, and can end without it.
func Descendant(family, name string) string { return family + descendantSeparator + name }

// RootFamily returns the first of a line of descendants.
func RootFamily(family string) string {
	root, _, _ := strings.Cut(family, descendantSeparator)
	return root
}

// AfterFamily returns the first name that is after those of a family and its descendants.
func AfterFamily(family string) string { return family + " " }

// MaxData is the largest Data that a store must take, in bytes.
const MaxData = 64 << 10

// Tickets keeps tickets. All methods may be called at the same time from many
// goroutines and, where stores share a database, from many processes; each takes
// effect whole, at one moment between call and return, or not at all. What returned
// nil is durable: it survives the death of the process and the loss of power. An
// operation whose caller gave up (ctx) may still take effect.
//
// Expiry is a comparison with now at read time: a ticket is live while now < Expires.
// Space is reclaimed later, in small steps.
type Tickets interface {
	// Put stores new tickets, all or none. A live ticket with the same key, spent or
	// not, is ErrExists; an expired one is replaced.
	Put(ctx context.Context, now time.Time, tickets ...Ticket) error

	// Get returns the live ticket, spent or not, or ErrNotFound.
	Get(ctx context.Context, now time.Time, key Key) (Ticket, error)

	// GetAll returns what Get returns for each key, in any order, without those that are not
	// there. It costs less than a Get for each.
	GetAll(ctx context.Context, now time.Time, keys ...Key) ([]Ticket, error)

	// Spend marks live, unspent tickets as spent at now and stores new ones, all or
	// nothing. Of any number of callers that spend the same ticket one succeeds and the
	// rest get ErrSpent. ErrNotFound: a ticket is not there, or has expired, or was
	// deleted. ErrExists: as for Put.
	Spend(ctx context.Context, now time.Time, spend []Key, put ...Ticket) error

	// SetExpires changes when a live, unspent ticket expires. ErrSpent, ErrNotFound: as for
	// Spend.
	SetExpires(ctx context.Context, now time.Time, key Key, expires time.Time) error

	// Delete removes tickets; those that are not there are no error. Whoever spends one
	// of them at the same time either succeeds before or gets ErrNotFound.
	Delete(ctx context.Context, keys ...Key) error

	// DeleteFamily removes every ticket of kind kinds (all kinds, if none is named) that
	// has this family or a Descendant of it. A ticket that a concurrent Spend derives from one of them is gone
	// too when both have returned: whoever revokes a family need not fear a refresh that
	// was on its way.
	DeleteFamily(ctx context.Context, family string, kinds ...Kind) error

	// FindEnded returns the live tickets of KindStatus that were spent, or would have been
	// removed, at most limit.
	FindEnded(ctx context.Context, now time.Time, limit int) ([]Ticket, error)

	// FindFamily returns the live tickets of a family and kind, spent or not, the latest
	// expiry first, at most limit.
	FindFamily(ctx context.Context, now time.Time, family string, kind Kind, limit int) ([]Ticket, error)
}

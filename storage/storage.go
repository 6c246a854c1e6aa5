// Package storage is the contract for what is stored for a short time: authorization codes,
// refresh tokens, interactions, used jti values, sign-in sessions. They are all Tickets. A
// new kind of ticket needs no migration, and every store makes the same few promises, which
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

// ErrUnavailable means that the database cannot be reached, does not respond in time, or is
// full: the same operation may succeed later. The caller does not know whether the operation
// took effect.
var ErrUnavailable = errors.New("storage: unavailable")

// Errors of the contract. Any other error means that the store has failed; the caller then
// does not know whether the operation took effect.
var (
	// ErrNotFound means that there is no such record, or that it has expired.
	ErrNotFound = errors.New("storage: not found")
	// ErrExists means that there is already a live ticket with that key.
	ErrExists = errors.New("storage: already exists")
	// ErrSpent means that another caller spent the ticket first.
	ErrSpent = errors.New("storage: already spent")
)

// Kind names what a ticket is. It is part of the key and of the hash, so that a code
// is never found as a refresh token.
type Kind string

// KindStatus is the kind of tickets that represent something others rely on without checking
// back, such as a token whose status is published in a list. Such a ticket is kept after its
// end: whatever would remove it before it expires (the deletion of its family, its grant or
// its key) marks it as spent instead, at an unspecified time, so that FindEnded returns it.
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
	var space [512]byte // sealed codes fit, too
	b := append(space[:0], k...)
	b = append(b, 0)
	b = append(b, secret...)
	return Key{Kind: k, ID: sha256.Sum256(b)}
}

// NewID returns 128 random bits in 22 characters, for records whose name is not a secret
// and for secrets that are valid for minutes.
func NewID() string {
	var b [16]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Ticket is a record that is stored for a short time.
type Ticket struct {
	Key
	// Grant is the grant that the ticket belongs to; "" if none. The ticket ends with it.
	Grant string
	// Family names what began with one event and ends together: the authorization for a code
	// and the tokens that descend from it, the user for a sign-in session. "" if none. A name
	// contains no control characters, except the one that Descendant inserts.
	Family string
	// Data belongs to the caller, at most MaxData bytes; a store does not interpret it. It
	// contains no secret in plain text.
	Data []byte
	// Expires is when the ticket stops existing for every method. Stores keep
	// milliseconds.
	Expires time.Time
	// Spent is when the ticket was spent; zero if it was not. A spent ticket stays readable
	// until it expires, so that a replay is recognized.
	Spent time.Time
}

// descendantSeparator sorts before every character of a family's name, so that a family
// and its descendants are one range of names.
const descendantSeparator = "\x1f"

// Descendant returns the name of a family that ends with another family, and can end without
// it.
func Descendant(family, name string) string { return family + descendantSeparator + name }

// RootFamily returns the family from which a family descends; the family itself if it
// descends from none.
func RootFamily(family string) string {
	root, _, _ := strings.Cut(family, descendantSeparator)
	return root
}

// AfterFamily returns the first name that sorts after a family and its descendants.
func AfterFamily(family string) string { return family + " " }

// MaxData is the largest Data that a store must accept, in bytes.
const MaxData = 64 << 10

// Tickets stores tickets. All methods may be called concurrently from many goroutines and,
// where stores share a database, from many processes; each takes effect completely, at one
// moment between call and return, or not at all. If a method returns nil, its effect is
// durable: it survives a crash of the process and a power failure. An operation whose ctx was
// canceled may still take effect.
//
// Expiry is a comparison with now at read time: a ticket is live while now < Expires.
// Space is reclaimed later, in small steps.
type Tickets interface {
	// Put stores new tickets, all or none. If there is a live ticket with the same key, spent
	// or not, it returns ErrExists; an expired one is replaced.
	Put(ctx context.Context, now time.Time, tickets ...Ticket) error

	// Get returns the live ticket, spent or not, or ErrNotFound.
	Get(ctx context.Context, now time.Time, key Key) (Ticket, error)

	// GetAll returns what Get returns for each key, in any order, and omits the tickets that
	// Get does not find. It costs less than a Get for each.
	GetAll(ctx context.Context, now time.Time, keys ...Key) ([]Ticket, error)

	// Spend marks live, unspent tickets as spent at now and stores new ones, all or
	// nothing. Of any number of callers that spend the same ticket, one succeeds and the
	// rest get ErrSpent. It returns ErrNotFound if a ticket does not exist, has expired, or
	// was deleted, and ErrExists like Put.
	Spend(ctx context.Context, now time.Time, spend []Key, put ...Ticket) error

	// SetExpires changes when a live, unspent ticket expires. It returns ErrSpent and
	// ErrNotFound like Spend.
	SetExpires(ctx context.Context, now time.Time, key Key, expires time.Time) error

	// Delete removes tickets; it is not an error if some of them do not exist. A caller that
	// spends one of them at the same time either succeeds before or gets ErrNotFound.
	Delete(ctx context.Context, keys ...Key) error

	// DeleteFamily removes every ticket of kind kinds (all kinds, if none is named) that
	// has this family or a Descendant of it. A ticket that a concurrent Spend derives from
	// one of them is gone too once both have returned, so that no refresh survives the
	// revocation of its family.
	DeleteFamily(ctx context.Context, family string, kinds ...Kind) error

	// FindEnded returns the live tickets of KindStatus that were spent, or would have been
	// removed, at most limit.
	FindEnded(ctx context.Context, now time.Time, limit int) ([]Ticket, error)

	// FindFamily returns the live tickets of a family and kind, spent or not, the latest
	// expiry first, at most limit.
	FindFamily(ctx context.Context, now time.Time, family string, kind Kind, limit int) ([]Ticket, error)
}

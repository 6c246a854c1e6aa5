package identity

import (
	"context"
	"errors"
	"time"

	"github.com/valetkey/valetkey/storage"
)

// Store is what sign-in asks of a database. It belongs to one issuer.
type Store interface {
	storage.Tickets

	// User returns a person by ID, UserByIdentifier by a canonical identifier
	// (CanonicalIdentifier); storage.ErrNotFound if there is none. The returned record
	// is the caller's own.
	User(ctx context.Context, id string) (*User, error)
	UserByIdentifier(ctx context.Context, identifier string) (*User, error)
	// PutUser stores a person, new or changed, with Identifiers() as the names that find
	// them. ErrIdentifierTaken: one of those belongs to somebody else. The sessions of
	// somebody who is disabled end: their tickets go, and for each there is an EndedNote.
	PutUser(ctx context.Context, user *User) error
	// DeleteUser removes a person, their grants, and every ticket of the family
	// SessionFamily(id) or that hangs from one of those grants. For each session there is
	// an EndedNote.
	DeleteUser(ctx context.Context, id string) error
	// Users lists people in the order of their IDs, those after the given one.
	Users(ctx context.Context, after string, limit int) ([]User, error)
	// HasAdministrator reports whether any person who is not disabled is an administrator.
	HasAdministrator(ctx context.Context) (bool, error)
}

// ErrIdentifierTaken says that a username or e-mail address is another person's.
var ErrIdentifierTaken = errors.New("identity: the username or e-mail address is taken")

// User is a resource owner.
type User struct {
	// ID is the subject identifier: random, never given to anybody else.
	ID       string
	Username string
	// PasswordHash is in PHC string format; "" means that no password signs in.
	PasswordHash string
	// DeclaredPassword is the hash that an operator's declaration gave last; "" if none
	// did. A declaration that says the same again leaves alone what the person chose since.
	DeclaredPassword string
	// Claims are OpenID Connect's standard claims and others, by their names, without
	// sub and preferred_username, which follow from ID and Username.
	Claims        map[string]any
	Disabled      bool
	Administrator bool
	CreatedAt     time.Time
	UpdatedAt     time.Time
}

// SessionFamily is the ticket family of a person's sign-in sessions.
func SessionFamily(userID string) string { return "user:" + userID }

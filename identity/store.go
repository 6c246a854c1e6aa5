package identity

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/valetkey/valetkey/storage"
)

// Store is what sign-in asks of a database. It belongs to one issuer.
type Store interface {
	storage.Tickets
	storage.Counts

	// User returns a person by ID, UserByIdentifier by a canonical identifier
	// (CanonicalIdentifier); storage.ErrNotFound if there is none. The returned record
	// is the caller's own.
	User(ctx context.Context, id string) (*User, error)
	// UserValidity returns what decides whether something that was issued to a user is still
	// valid, without the rest of the record: every introspection asks for it.
	// storage.ErrNotFound: there is no such user.
	UserValidity(ctx context.Context, id string) (Validity, error)
	UserByIdentifier(ctx context.Context, identifier string) (*User, error)
	// CreateUser stores a new user, with Identifiers() as the names that find them.
	// storage.ErrExists: there is a user of that ID. ErrIdentifierTaken: one of the names
	// belongs to another user.
	CreateUser(ctx context.Context, user *User) error
	// UpdateUser changes a user: update gets the record as it is now, and what it leaves
	// there is stored. Nobody else changes the record meanwhile. update must not call the
	// store, and may be called again if the database asks for another try. If it returns an
	// error nothing changes, and UpdateUser returns that error. The ID cannot change.
	// storage.ErrNotFound: there is no such user. ErrIdentifierTaken: as for CreateUser.
	//
	// If User.Settle says so, everything that was issued to the user ends in the same
	// transaction: their sessions, with an EndedNote for each, and the tickets of their grants;
	// except what belongs to the sessions in User.Kept. The grants stay.
	UpdateUser(ctx context.Context, id string, update func(*User) error) error
	// DeleteUser removes a person, their grants, and every ticket of the family
	// SessionFamily(id) or that hangs from one of those grants. For each session there is
	// an EndedNote.
	DeleteUser(ctx context.Context, id string) error
	// Users lists people in the order of their IDs, those after the given one.
	Users(ctx context.Context, after string, limit int) ([]User, error)
	// PasswordHashKinds lists PasswordHashKind of every user's PasswordHash, each once,
	// without "", and at most 64. It is called at each sign-in, so it must not look at every
	// user.
	PasswordHashKinds(ctx context.Context) ([]string, error)
	// HasAdministrator reports whether any user who is Active is an administrator.
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
	// DeclaredPassword is the hash, or the store's fingerprint of the password, that an
	// operator's declaration gave last; "" if none did. A declaration that says the same again
	// leaves alone what the user chose since.
	DeclaredPassword string
	// Claims are OpenID Connect's standard claims and others, by their names, without
	// sub and preferred_username, which follow from ID and Username.
	Claims        map[string]any
	Disabled      bool
	Administrator bool
	// Origin is how the user came: OriginDeclared, OriginSignedUp or OriginSetup.
	Origin string
	// RetiredAt is when a declaration stopped naming the user; zero: it did not. The record
	// is kept, and refused as if it were disabled.
	RetiredAt time.Time
	// EndedAt is when everything ended that had been issued to the user: sessions, codes and
	// tokens from before are not valid. Zero: that never happened. Kept are the public names
	// of the one session that went on then, with the tokens that were issued in it.
	EndedAt   time.Time
	Kept      []string
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Active reports whether the user may sign in and be acted for.
func (u *User) Active() bool { return !u.Disabled && u.RetiredAt.IsZero() }

// End ends everything that was issued to the user until now. With a session, that goes on,
// with what was issued in it. It is for an update of Store.UpdateUser.
func (u *User) End(now time.Time, kept *Session) {
	u.EndedAt, u.Kept = now, nil
	if kept != nil {
		u.Kept = append(kept.Former(), kept.ID)
	}
}

// Settle is for stores. It reports whether a change from before ends what was issued to the
// user: because End was called, or because the user has become inactive, or active again.
// What was under way while a user was inactive does not come to life afterwards. now is when
// the change is stored.
func (u *User) Settle(now time.Time, before *User) bool {
	if u.Active() != before.Active() {
		u.End(now, nil)
	}
	if u.EndedAt.Equal(before.EndedAt) {
		return false
	}
	if now.After(u.EndedAt) { // End was called with the time at which a request began
		u.EndedAt = now
	}
	return true
}

// Valid reports whether what was issued to the user at a time, in a session of some names,
// has not ended since.
func (u *User) Valid(issued time.Time, session ...string) bool {
	return u.Validity().Includes(issued, session...)
}

// Validity returns what Store.UserValidity returns for the user.
func (u *User) Validity() Validity {
	return Validity{Active: u.Active(), EndedAt: u.EndedAt, Kept: u.Kept}
}

// Validity says which of the things that were issued to a user are still valid.
type Validity struct {
	// Active is User.Active; the others are the members of User.
	Active  bool
	EndedAt time.Time
	Kept    []string
}

// Includes reports whether the user is active, and what was issued at a time, in a session of
// some names, has not ended since.
func (v Validity) Includes(issued time.Time, session ...string) bool {
	if !v.Active {
		return false
	}
	// Stores keep milliseconds.
	return issued.UnixMilli() >= v.EndedAt.UnixMilli() || v.EndedAt.IsZero() ||
		slices.ContainsFunc(session, func(name string) bool { return slices.Contains(v.Kept, name) })
}

// The values of User.Origin.
const (
	OriginDeclared = "declared"  // by an operator
	OriginSignedUp = "signed_up" // by the user
	OriginSetup    = "setup"     // with the link for the first administrator
)

// SessionFamily is the ticket family of a user's sign-in sessions.
func SessionFamily(userID string) string { return "user:" + userID }

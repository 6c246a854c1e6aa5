package identity

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/valetkey/valetkey/storage"
)

// Store is the database of sign-in, for one issuer.
type Store interface {
	storage.Tickets
	storage.Counts
	storage.Uses

	// User returns a user by ID, UserByIdentifier by a canonical identifier
	// (CanonicalIdentifier); storage.ErrNotFound if there is none. The caller may change the
	// returned record.
	User(ctx context.Context, id string) (*User, error)
	// CachedUser is like User, but the record may be from memory: a change by this store is seen
	// at once, a change by another node within a second. PasswordHash, DeclaredPassword and
	// UserCodeHash are "", Authenticators is nil, and the record is not for UpdateUser.
	CachedUser(ctx context.Context, id string) (*User, error)
	// UserValidity returns CachedUser(id).Validity(), at less cost. It is called for every
	// introspection.
	UserValidity(ctx context.Context, id string) (Validity, error)
	UserByIdentifier(ctx context.Context, identifier string) (*User, error)
	// UserByExternal returns the user with a link (User.External) of an issuer and subject;
	// storage.ErrNotFound if there is none.
	UserByExternal(ctx context.Context, issuer, subject string) (*User, error)
	// CreateUser stores a new user, who is found by Identifiers(). It returns storage.ErrExists if
	// there is a user with that ID, ErrIdentifierTaken if one of the identifiers belongs to
	// another user, and ErrExternalTaken if one of the links does.
	CreateUser(ctx context.Context, user *User) error
	// UpdateUser changes a user: it calls update with the current record and stores the result.
	// No one else changes the record in the meantime. update must not call the store, and may be
	// called again if the database requires a retry. If it returns an error, nothing changes and
	// UpdateUser returns that error. The ID cannot change. UpdateUser returns
	// storage.ErrNotFound if there is no such user, and ErrIdentifierTaken and ErrExternalTaken like
	// CreateUser. It returns ErrLastAdministrator if the user administers and would not anymore, and
	// nobody else does; of two that run at the same time, at most one can be the last.
	//
	// If User.Settle returns true, everything that was issued to the user ends in the same
	// transaction: the sessions, with an EndedNote for each, and the tickets of the user's
	// grants, except those that belong to the sessions in User.Kept. The grants are kept.
	UpdateUser(ctx context.Context, id string, update func(*User) error) error
	// DeleteUser removes a user, the user's grants and uses, and every ticket of the family
	// SessionFamily(id), of AccountFamilies(id), or of one of those grants. For each session it stores an EndedNote. It returns
	// ErrLastAdministrator like UpdateUser.
	DeleteUser(ctx context.Context, id string) error
	// Users lists users ordered by ID, starting after the given ID.
	Users(ctx context.Context, after string, limit int) ([]User, error)
	// PasswordHashKinds lists PasswordHashKind of every user's PasswordHash, without
	// duplicates and "", at most 64. It is called at each sign-in, so it must not read every
	// user.
	PasswordHashKinds(ctx context.Context) ([]string, error)
	// HasAdministrator reports whether there is an administrator other than the user with an ID,
	// which may be "". Those who are disabled, retired or being deleted do not count.
	HasAdministrator(ctx context.Context, except string) (bool, error)
	// DueUsers returns the IDs of users whose User.Due is not after now, at most limit, the one that
	// is due first at the beginning.
	DueUsers(ctx context.Context, now time.Time, limit int) ([]string, error)
	// EraseUser does what DeleteUser does if User.Erasable(now) is true when no one else can
	// change the record anymore. Otherwise, it returns storage.ErrNotFound and changes nothing.
	EraseUser(ctx context.Context, now time.Time, id string) error
}

// ErrIdentifierTaken means that a username or email address belongs to another user.
var ErrIdentifierTaken = errors.New("identity: the username or email address is already taken")

// User is a resource owner.
type User struct {
	// ID is the subject identifier. It is random and never reused.
	ID       string
	Username string
	// PasswordHash is in PHC string format; "" means that there is no password.
	PasswordHash string
	// DeclaredPassword is the hash, or the store's fingerprint of the password, in the
	// operator's last declaration; "" if there is none. Declaring the same password again does
	// not replace one that the user has chosen since.
	DeclaredPassword string
	// Authenticators are the user's other means to sign in. A declaration never changes them. They are
	// stored with EncodeAuthenticators.
	Authenticators []Authenticator
	// UserCodeHash is the hash of the user code (ChangeUserCode), in PHC string format; "" if the user
	// has set none.
	UserCodeHash string
	// Claims are OpenID Connect's standard claims and others, by name, without sub and
	// preferred_username, which are derived from ID and Username.
	Claims        map[string]any
	Disabled      bool
	Administrator bool
	// Origin is how the user was created: one of the Origin constants.
	Origin string
	// RetiredAt is when a declaration stopped naming the user; zero if it did not. The record is
	// kept, and treated as disabled.
	RetiredAt time.Time
	// EndedAt is when everything ended that had been issued to the user: earlier sessions, codes
	// and tokens are not valid. It is zero if that never happened. Kept are the public names of
	// the one session that continued, with the tokens that were issued in it.
	EndedAt time.Time
	Kept    []string
	// Account is what is kept about the account besides.
	Account   AccountData
	CreatedAt time.Time
	UpdatedAt time.Time
	// External are the users of other providers who sign in to this account. Each belongs to one
	// account only (UserByExternal). Declarations never change them.
	External []ExternalLink
	// DeclaredBy is the source that declares the user; "" if none does. Only a database has it, and
	// changing it here has no effect.
	DeclaredBy string `json:"-"`
	// Forgotten is set by Forget. It is not stored: Store.UpdateUser deletes the user's grants.
	Forgotten bool `json:"-"`
}

// Administers reports whether the user counts as an administrator: disabled and retired ones, and
// those that are being deleted, do not. One whose account is locked down can come back.
func (u *User) Administers() bool { return u.Administrator && !u.suspended() && !u.BeingDeleted() }

// Active reports whether clients may act for the user. Who may sign in is MaySignIn.
func (u *User) Active() bool { return u.MaySignIn() && !u.BeingDeleted() }

// Clone returns a copy that shares nothing with the user. It copies maps and slices in Claims
// as package json decodes them.
func (u *User) Clone() *User {
	c := *u
	c.Kept, c.Account = slices.Clone(u.Kept), u.Account.clone()
	c.Authenticators = slices.Clone(u.Authenticators)
	c.External = cloneLinks(u.External)
	if u.Claims != nil {
		c.Claims = cloneClaim(u.Claims).(map[string]any)
	}
	return &c
}

func cloneClaim(value any) any {
	switch value := value.(type) {
	case map[string]any:
		c := make(map[string]any, len(value))
		for name, member := range value {
			c[name] = cloneClaim(member)
		}
		return c
	case []any:
		c := make([]any, len(value))
		for i := range value {
			c[i] = cloneClaim(value[i])
		}
		return c
	}
	return value
}

// End ends everything that was issued to the user until now, except a kept session and what was
// issued in it, if kept is not nil. Functions passed to Store.UpdateUser call it.
func (u *User) End(now time.Time, kept *Session) {
	u.EndedAt, u.Kept = now, nil
	if kept != nil {
		u.Kept = append(kept.Former(), kept.ID)
	}
}

// Forget ends everything that was issued to the user, like End, and also what the user has allowed
// clients to do: the grants. Functions passed to Store.UpdateUser call it.
func (u *User) Forget(now time.Time) {
	u.End(now, nil)
	u.Forgotten = true
}

// Settle is called by stores. It reports whether a change from before ends what was issued to the
// user: because End was called, or because the user has become inactive or active again.
// Requests that were pending while a user was inactive do not succeed afterwards. now is when
// the change is stored.
func (u *User) Settle(now time.Time, before *User) bool {
	if u.Active() != before.Active() && u.EndedAt.Equal(before.EndedAt) {
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

// Valid reports whether a token that was issued to the user at a time, in a session with some
// names, is still valid.
func (u *User) Valid(issued time.Time, session ...string) bool {
	return u.Validity().Includes(issued, session...)
}

// Validity returns the result of Store.UserValidity for the user.
func (u *User) Validity() Validity {
	return Validity{Active: u.Active(), EndedAt: u.EndedAt, Kept: u.Kept}
}

// Validity determines which of a user's tokens are still valid.
type Validity struct {
	// Active is User.Active; the others are the fields of User.
	Active  bool
	EndedAt time.Time
	Kept    []string
}

// Includes reports whether the user is active and a token that was issued at a time, in a session
// with some names, has not ended since.
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
	OriginCreated  = "created"   // by someone who manages users
)

// SessionFamily is the ticket family of a user's sign-in sessions.
func SessionFamily(userID string) string { return "user:" + userID }

// AccountFamilies are the ticket families that end with a user's account, and not with the sessions: links that
// undo changes contain former addresses, and removed passkeys name the user.
func AccountFamilies(userID string) []string {
	return []string{undoFamily(userID), removedPasskeyFamily(userID)}
}

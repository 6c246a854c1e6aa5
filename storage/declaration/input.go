package declaration

import (
	"encoding/json"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage/record"
)

// Members are the members of a record that a declaration names, as JSON. null removes one;
// a member that is not named keeps its value.
type Members map[string]json.RawMessage

func isNull(value json.RawMessage) bool { return string(value) == "null" }

// Input is what a source declares, and how to apply it.
type Input struct {
	Now       time.Time
	Clients   []Client
	Users     []User
	Scopes    []Record
	Resources []Record

	// Source owns what it declares: what it no longer names is retired. "" owns nothing.
	Source string
	// Formerly is the name that the source had in an earlier release; "" if none.
	Formerly string
	// Version is that of the file; nil if none is stored.
	Version *Version
	// Force applies the file even if a newer version was applied.
	Force bool
	// KeepUnnamed retires no records.
	KeepUnnamed bool
	// Prune permanently removes all records that the source declared before and no longer names;
	// Pruned names some of them.
	Prune  bool
	Pruned map[Name]bool
	// Check, if set, reports why a merged record must not be stored: a record.Client,
	// Scope or Resource.
	Check func(value any, known *Known) error
}

// Client is the declaration of a client.
type Client struct {
	ID      string
	Members Members // by the JSON names of record.Client
	// Secret and SecretNext are nil if they are not named; "" removes the secret. A Secret that
	// is named without a SecretNext is the only one that stays valid.
	Secret, SecretNext *string
	// Adopt takes over a client of this ID that registered itself.
	Adopt bool
	whole *record.Client // the complete record
}

// Record is the declaration of a scope or a resource.
type Record struct {
	Name    string
	Members Members
	whole   bool
}

// User is the declaration of a user.
type User struct {
	Username string
	// Subject is the ID of a new user; an existing user must have the same. "": any.
	Subject string
	// Adopt takes over a signed-up account with the same username or email address.
	Adopt bool
	// Disabled and Administrator are nil if they are not named.
	Disabled, Administrator *bool
	// Claims are the named claims; nil removes one.
	Claims map[string]any
	// OnlyTheseClaims removes all custom claims that are not in Claims.
	OnlyTheseClaims bool
	// IsStandardClaim reports which claims OnlyTheseClaims does not remove.
	IsStandardClaim func(name string) bool
	Password        Password
	exact           *identity.User // the complete record
}

// Password is the declaration of a user's password.
type Password struct {
	Named bool
	// Mark returns the DeclaredPassword of the user with an ID, by which the same password is
	// recognized the next time: a declared hash, or the fingerprint of a password. nil removes
	// the password.
	Mark func(userID string) string
	// SameAs is a DeclaredPassword that was found to match the password; "" if none.
	SameAs string
	// Hash is the hash of the password; "" if it is not known yet, see Plan.Unhashed.
	Hash string
}

// Known are the names of active records, including declared ones.
type Known struct{ Clients, Scopes, Resources map[string]bool }

// Version identifies the contents of a file.
type Version struct {
	Digest   string
	Modified time.Time // zero if unknown
	Applied  time.Time
}

// older reports whether v is older than the version that was applied last. versions are those
// that were applied, the last one first.
func (v *Version) older(versions []Version) bool {
	if len(versions) == 0 || v.Digest == versions[0].Digest {
		return false
	}
	for _, before := range versions[1:] {
		if v.Digest == before.Digest {
			return true
		}
	}
	return !v.Modified.IsZero() && v.Modified.Before(versions[0].Modified)
}

// Row is a stored record and what is known about its declaration.
type Row[T any] struct {
	Record T
	Source string
	// Named are the members that the source names, and those that it named before and that still
	// have a value.
	Named     []string
	RetiredAt time.Time
}

// State is what is stored. A store loads what Selection names.
type State struct {
	Clients   []Row[record.Client]
	Users     []Row[identity.User]
	Scopes    []Row[record.Scope]
	Resources []Row[record.Resource]
	// Versions are those of the source, the last applied one first.
	Versions []Version
}

// Selection names what Reconcile needs: all scopes, resources and declared clients, the clients
// and users with these names, and the users of these sources.
type Selection struct {
	Source, Formerly string
	// ClientIDs and UserIDs: a client_id must not be a user's subject identifier.
	ClientIDs, UserIDs []string
	Identifiers        []string
}

// Selection returns what a store must load for the input.
func (in *Input) Selection() Selection {
	s := Selection{Source: in.Source, Formerly: in.Formerly}
	for _, c := range in.Clients {
		s.ClientIDs = append(s.ClientIDs, c.ID)
	}
	s.UserIDs = append(s.UserIDs, s.ClientIDs...)
	for i := range in.Users {
		u := &in.Users[i]
		email, _ := u.Claims["email"].(string)
		for _, s2 := range []string{u.Username, email} {
			if canonical, err := identity.CanonicalIdentifier(s2); err == nil {
				s.Identifiers = append(s.Identifiers, canonical)
			}
		}
		if u.Subject != "" {
			s.ClientIDs = append(s.ClientIDs, u.Subject)
			s.UserIDs = append(s.UserIDs, u.Subject)
		}
	}
	return s
}

// Plan is what a store must write, in one transaction with the reading of the State.
type Plan struct {
	Clients   []Write[record.Client]
	Users     []Write[identity.User]
	Scopes    []Write[record.Scope]
	Resources []Write[record.Resource]
	// Remove names clients, users (by ID), scopes and resources.
	Remove []Name
	// KeepAdministrator refuses the plan, with identity.ErrLastAdministrator, if a user administers the
	// server and nobody would afterwards.
	KeepAdministrator bool
	// TakeOver gives the source everything that Selection.Formerly has.
	TakeOver bool
	// Version, if set, becomes the last applied version of the source.
	Version *Version
	// Older reports that the file is older than what was applied: the plan is empty.
	Older bool
	// Changes describe the plan for the operator.
	Changes []Change
	// Invalid are the errors of Input.Check about new records: the declarations are invalid,
	// whatever is stored. Such a plan must not be written.
	Invalid []error
	// Unhashed are the indexes of users whose declared password is new and has no hash yet. Such
	// a plan must not be written.
	Unhashed []int
}

// Write is a row to store.
type Write[T any] struct {
	Row[T]
	// Visible reports that more changes than the bookkeeping about the declaration.
	Visible bool
	// Forget ends everything that belongs to the record: sessions, tokens, grants, remembered
	// devices.
	Forget bool
}

// Name names a record.
type Name struct {
	Kind string `json:"kind"` // client, user, scope or resource
	Name string `json:"name"`
	// ID is that of a user.
	ID string `json:"-"`
}

// Empty reports whether there is nothing to write.
func (p *Plan) Empty() bool {
	return len(p.Clients)+len(p.Users)+len(p.Scopes)+len(p.Resources)+len(p.Remove)+len(p.Unhashed) == 0 && p.Version == nil
}

// Bumps reports whether the plan changes clients, scopes or resources in a way that the engine
// sees.
func (p *Plan) Bumps() bool {
	for _, r := range p.Remove {
		if r.Kind != KindUser {
			return true
		}
	}
	return anyVisible(p.Clients) || anyVisible(p.Scopes) || anyVisible(p.Resources)
}

func anyVisible[T any](writes []Write[T]) bool {
	for i := range writes {
		if writes[i].Visible {
			return true
		}
	}
	return false
}

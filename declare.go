package valetkey

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/sqldb"
)

// Change is one line of a diff between declarations and a database.
type Change struct {
	Kind   string `json:"kind"`   // client, user, scope or resource
	Name   string `json:"name"`   // client_id, username, name or identifier
	Action string `json:"action"` // add or change
	// Members are those that differ, with what they were and will be. Secrets show as
	// "(secret)".
	Members []MemberChange `json:"members,omitempty"`
}

// MemberChange is one member that differs, as JSON; "" where it is absent.
type MemberChange struct {
	Name string `json:"name"`
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// secretMember stands for every value that a diff must not show.
const secretMember = "(secret)"

// Apply puts declarations into a database and returns what that changed. With source "",
// nothing is removed; otherwise what the same source declared before and declares no
// longer is. Passwords are hashed here, and only those that changed.
func (d *Declarations) Apply(ctx context.Context, store *sqldb.Store, source string) ([]Change, error) {
	records, changes, err := d.compare(ctx, store)
	if err != nil {
		return nil, err
	}
	if len(changes) == 0 && source == "" {
		return nil, nil
	}
	for i := range records.Users {
		password := d.Users[i].Password
		if password == "" || records.Users[i].PasswordHash != "" {
			continue
		}
		if records.Users[i].PasswordHash, err = identity.HashPassword(password); err != nil {
			return nil, fmt.Errorf("hash the password of %q: %w", d.Users[i].Username, err)
		}
		records.Users[i].DeclaredPassword = records.Users[i].PasswordHash
	}
	if err := store.Declare(ctx, time.Now(), source, records); err != nil {
		return nil, fmt.Errorf("apply declarations: %w", err)
	}
	return changes, nil
}

// Diff returns what Apply would change.
func (d *Declarations) Diff(ctx context.Context, store *sqldb.Store) ([]Change, error) {
	_, changes, err := d.compare(ctx, store)
	return changes, err
}

// compare returns the declarations as records, and how they differ from what is stored.
// A user whose password is new has no PasswordHash yet.
func (d *Declarations) compare(ctx context.Context, store *sqldb.Store) (declaration.Declaration, []Change, error) {
	var records declaration.Declaration
	if err := d.Validate(); err != nil {
		return records, nil, err
	}
	stored, err := store.Declared(ctx)
	if err != nil {
		return records, nil, fmt.Errorf("read what is stored: %w", err)
	}
	known := Declarations{Scopes: stored.Scopes, Resources: stored.Resources}
	for _, c := range stored.Clients {
		known.Clients = append(known.Clients, Client{ID: c.ID})
	}
	if err := collectProblems(func(report reporter) { d.checkReferences(&known, report) }); err != nil {
		return records, nil, err
	}
	var changes []Change
	clients := byName(stored.Clients, func(c *authserver.Client) string { return c.ID })
	scopes := byName(stored.Scopes, func(s *authserver.Scope) string { return s.Name })
	resources := byName(stored.Resources, func(r *authserver.Resource) string { return r.Identifier })
	subjects := byName(stored.Users, func(u *identity.User) string { return u.ID })
	users := byName(stored.Users, func(u *identity.User) string { return canonicalName(u.Username) })
	for _, c := range d.Clients {
		// A token of a client in its own name has its client_id as sub: it must not be
		// taken for a person (RFC 9700, section 4.15).
		if subjects[c.ID] != nil {
			return records, nil, fmt.Errorf("client %q: the client_id is a person's subject identifier", c.ID)
		}
		record := c.record()
		records.Clients = append(records.Clients, record)
		var before any
		secrets := len(record.Secrets) > 0
		if old := clients[record.ID]; old != nil {
			before, secrets = *old, !slices.Equal(old.Secrets, record.Secrets)
		}
		changes = appendChange(changes, "client", record.ID, before, record, "client_secret", secrets)
	}
	for _, s := range d.Scopes {
		records.Scopes = append(records.Scopes, s)
		changes = appendChange(changes, "scope", s.Name, valueOrNil(scopes[s.Name]), s, "", false)
	}
	for _, r := range d.Resources {
		records.Resources = append(records.Resources, r)
		changes = appendChange(changes, "resource", r.Identifier, valueOrNil(resources[r.Identifier]), r, "", false)
	}
	for _, u := range d.Users {
		record, before, newPassword, err := u.compare(users[canonicalName(u.Username)])
		if err != nil {
			return records, nil, err
		}
		records.Users = append(records.Users, record)
		changes = appendChange(changes, "user", u.Username, before, comparableUser(record), "password", newPassword)
	}
	return records, changes, nil
}

// byName finds records by their names. A file may declare thousands.
func byName[T any](values []T, name func(*T) string) map[string]*T {
	found := make(map[string]*T, len(values))
	for i := range values {
		found[name(&values[i])] = &values[i]
	}
	return found
}

// valueOrNil is nil without a type for a nil pointer.
func valueOrNil[T any](value *T) any {
	if value == nil {
		return nil
	}
	return *value
}

// canonicalName is what two spellings of one username have in common.
func canonicalName(username string) string {
	canonical, err := identity.CanonicalIdentifier(username)
	if err != nil {
		return username // no user that was checked has it
	}
	return canonical
}

// compare returns a user as a record, and the stored one, if there is one, in a
// comparable form.
func (u *User) compare(old *identity.User) (record identity.User, before any, newPassword bool, err error) {
	claims, err := u.claims()
	if err != nil {
		return record, nil, false, err
	}
	record = identity.User{
		Username: u.Username, PasswordHash: u.PasswordHash, DeclaredPassword: u.PasswordHash, Claims: claims,
		Disabled: u.Disabled, Administrator: u.Administrator,
	}
	if old == nil {
		return record, nil, u.Password != "", nil
	}
	switch {
	case u.Password != "":
		// The same as was declared before: what the person chose since stays.
		if newPassword = !identity.VerifyPassword(old.DeclaredPassword, u.Password); !newPassword {
			record.PasswordHash, record.DeclaredPassword = old.PasswordHash, old.DeclaredPassword
		}
	case u.PasswordHash == "":
		// Nothing is said about the password: the person's own stays.
		record.PasswordHash, record.DeclaredPassword = old.PasswordHash, old.DeclaredPassword
	default:
		if newPassword = u.PasswordHash != old.DeclaredPassword; !newPassword {
			record.PasswordHash = old.PasswordHash
		}
	}
	return record, comparableUser(*old), newPassword, nil
}

func comparableUser(u identity.User) map[string]any {
	members := map[string]any{"username": u.Username, "disabled": u.Disabled, "administrator": u.Administrator}
	for name, value := range u.Claims {
		members[name] = value
	}
	return members
}

func appendChange(changes []Change, kind, name string, before, after any, secret string, secretChanged bool) []Change {
	change := Change{Kind: kind, Name: name, Action: "change"}
	if before == nil {
		change.Action = "add"
	}
	from, to := jsonMembers(before), jsonMembers(after)
	names := map[string]bool{}
	for member := range from {
		names[member] = true
	}
	for member := range to {
		names[member] = true
	}
	for member := range names {
		if !reflect.DeepEqual(from[member], to[member]) {
			change.Members = append(change.Members, MemberChange{member, jsonText(from[member]), jsonText(to[member])})
		}
	}
	slices.SortFunc(change.Members, func(a, b MemberChange) int { return strings.Compare(a.Name, b.Name) })
	if secretChanged {
		change.Members = append(change.Members, MemberChange{Name: secret, To: secretMember})
	}
	if before != nil && len(change.Members) == 0 {
		return changes
	}
	return append(changes, change)
}

// jsonMembers returns a record as a JSON object; false, empty and absent are the same.
func jsonMembers(record any) map[string]any {
	members := map[string]any{}
	document, err := json.Marshal(record)
	if err != nil || record == nil || json.Unmarshal(document, &members) != nil {
		return map[string]any{}
	}
	for name, value := range members {
		if value == false || value == "" || value == nil {
			delete(members, name)
		}
	}
	return members
}

func jsonText(value any) string {
	if value == nil {
		return ""
	}
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}

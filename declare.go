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
	for _, c := range d.Clients {
		// A token of a client in its own name has its client_id as sub: it must not be
		// taken for a person (RFC 9700, section 4.15).
		if slices.ContainsFunc(stored.Users, func(u identity.User) bool { return u.ID == c.ID }) {
			return records, nil, fmt.Errorf("client %q: the client_id is a person's subject identifier", c.ID)
		}
		record := c.record()
		records.Clients = append(records.Clients, record)
		at := slices.IndexFunc(stored.Clients, func(s authserver.Client) bool { return s.ID == record.ID })
		var before any
		var secrets bool
		if at >= 0 {
			before, secrets = stored.Clients[at], !slices.Equal(stored.Clients[at].Secrets, record.Secrets)
		}
		changes = appendChange(changes, "client", record.ID, before, record, "client_secret", secrets)
	}
	for _, s := range d.Scopes {
		records.Scopes = append(records.Scopes, s)
		at := slices.IndexFunc(stored.Scopes, func(o authserver.Scope) bool { return o.Name == s.Name })
		changes = appendChange(changes, "scope", s.Name, elementOrNil(stored.Scopes, at), s, "", false)
	}
	for _, r := range d.Resources {
		records.Resources = append(records.Resources, r)
		at := slices.IndexFunc(stored.Resources, func(o authserver.Resource) bool { return o.Identifier == r.Identifier })
		changes = appendChange(changes, "resource", r.Identifier, elementOrNil(stored.Resources, at), r, "", false)
	}
	for _, u := range d.Users {
		record, before, newPassword, err := u.compare(stored.Users)
		if err != nil {
			return records, nil, err
		}
		records.Users = append(records.Users, record)
		changes = appendChange(changes, "user", u.Username, before, comparableUser(record), "password", newPassword)
	}
	return records, changes, nil
}

func elementOrNil[T any](values []T, at int) any {
	if at < 0 {
		return nil
	}
	return values[at]
}

// compare returns a user as a record, and the stored one in a comparable form.
func (u *User) compare(stored []identity.User) (record identity.User, before any, newPassword bool, err error) {
	claims, err := u.claims()
	if err != nil {
		return record, nil, false, err
	}
	record = identity.User{
		Username: u.Username, PasswordHash: u.PasswordHash, Claims: claims,
		Disabled: u.Disabled, Administrator: u.Administrator,
	}
	at := slices.IndexFunc(stored, func(s identity.User) bool { return declaration.SameUser(&s, u.Username) })
	if at < 0 {
		return record, nil, u.Password != "", nil
	}
	old := &stored[at]
	switch {
	case u.Password != "":
		if newPassword = !identity.VerifyPassword(old.PasswordHash, u.Password); !newPassword {
			record.PasswordHash = old.PasswordHash
		}
	case u.PasswordHash == "":
		// Nothing is said about the password: the person's own stays.
		record.PasswordHash = old.PasswordHash
	default:
		newPassword = u.PasswordHash != old.PasswordHash
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

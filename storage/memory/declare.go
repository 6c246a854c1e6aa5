package memory

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/declaration"
)

// Declaration is what Declare takes.
type Declaration = declaration.Declaration

// record names something that a source declared.
type record struct{ kind, name string }

// Declare inserts or updates all of d, or nothing. With source != "", what the same source
// declared before and no longer declares is removed; "" removes nothing.
func (s *Store) Declare(_ context.Context, now time.Time, source string, d Declaration) error {
	if err := d.Check(); err != nil {
		return fmt.Errorf("declare: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	declared := map[record]bool{}
	mark := func(kind, name string) {
		declared[record{kind, name}] = true
		if source != "" {
			s.sources[record{kind, name}] = source
		}
	}
	// What is gone goes first: its names are free for what is new.
	for _, u := range d.Users {
		declared[record{"user", s.userNamed(u.Username).ID}] = true
	}
	for _, c := range d.Clients {
		declared[record{"client", c.ID}] = true
	}
	for _, scope := range d.Scopes {
		declared[record{"scope", scope.Name}] = true
	}
	for _, r := range d.Resources {
		declared[record{"resource", r.Identifier}] = true
	}
	users, sources := maps.Clone(s.users), maps.Clone(s.sources)
	var gone []record
	for r, from := range s.sources {
		if source != "" && from == source && !declared[r] {
			gone = append(gone, r)
			delete(s.sources, r)
			if r.kind == "user" {
				delete(s.users, r.name)
			}
		}
	}
	if err := s.declareUsers(now, d.Users, mark); err != nil {
		s.users, s.sources = users, sources
		return fmt.Errorf("declare: %w", err)
	}
	for _, r := range gone {
		s.remove(r)
	}
	changed := false
	for _, c := range d.Clients {
		if before, ok := s.clients[c.ID]; ok {
			c.EndedAt = before.EndedAt
			s.storeClient(now, before, c)
		} else {
			changed = put(s.clients, c.ID, cloneClient(c)) || changed
		}
		mark("client", c.ID)
	}
	for _, scope := range d.Scopes {
		changed = put(s.scopes, scope.Name, cloneJSON(scope)) || changed
		mark("scope", scope.Name)
	}
	for _, r := range d.Resources {
		changed = put(s.resources, r.Identifier, cloneJSON(r)) || changed
		mark("resource", r.Identifier)
	}
	if changed {
		s.version++
	}
	return nil
}

func (s *Store) declareUsers(now time.Time, users []identity.User, mark func(kind, name string)) error {
	for _, u := range users {
		old := s.userNamed(u.Username)
		u.ID, u.CreatedAt, u.UpdatedAt, u.EndedAt, u.Kept = old.ID, old.CreatedAt, old.UpdatedAt, old.EndedAt, old.Kept
		u = cloneJSON(u)
		if u.ID == "" {
			u.ID, u.CreatedAt = storage.NewID(), now
		}
		if !reflect.DeepEqual(u, old) {
			u.UpdatedAt = now
		}
		if err := u.Check(); err != nil {
			return fmt.Errorf("user %q: %w", u.Username, err)
		}
		var err error
		if old.ID == "" {
			err = s.storeUser(u)
		} else {
			err = s.updateUser(now, u.ID, func(stored *identity.User) error {
				*stored = u
				return nil
			})
		}
		if err != nil {
			return err
		}
		mark("user", u.ID)
	}
	return nil
}

func (s *Store) userNamed(username string) identity.User {
	for _, u := range s.users {
		if declaration.SameUser(&u, username) {
			return u
		}
	}
	return identity.User{}
}

func (s *Store) remove(r record) {
	switch r.kind {
	case "user":
		s.deleteUser(r.name)
		return
	case "client":
		delete(s.clients, r.name)
		s.deleteGrants(func(g authserver.Grant) bool { return g.ClientID == r.name })
	case "scope":
		delete(s.scopes, r.name)
	case "resource":
		delete(s.resources, r.name)
	}
	s.version++
}

// Declared returns every client, user, scope and resource that is stored, but for clients
// that registered themselves.
func (s *Store) Declared(context.Context) (Declaration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := Declaration{Scopes: sortedClones(s.scopes), Resources: sortedClones(s.resources), Users: sortedClones(s.users)}
	for _, id := range slices.Sorted(maps.Keys(s.clients)) {
		if s.clients[id].Registration == nil {
			d.Clients = append(d.Clients, cloneClient(s.clients[id]))
		}
	}
	return d, nil
}

// put stores value and reports whether that changed anything.
func put[T any](m map[string]T, name string, value T) bool {
	old, ok := m[name]
	m[name] = value
	return !ok || !reflect.DeepEqual(old, value)
}

func sortedClones[T any](m map[string]T) []T {
	var values []T
	for _, name := range slices.Sorted(maps.Keys(m)) {
		values = append(values, cloneJSON(m[name]))
	}
	return values
}

func cloneClient(c authserver.Client) authserver.Client {
	clone := cloneJSON(c)
	clone.Secrets, clone.RetiredAt, clone.EndedAt = slices.Clone(c.Secrets), c.RetiredAt, c.EndedAt
	return clone
}

func cloneGrant(g authserver.Grant) authserver.Grant {
	g.Scope, g.Declined = slices.Clone(g.Scope), slices.Clone(g.Declined)
	return g
}

// cloneJSON returns what a database would: it keeps these records as JSON, in which every
// number is a float64.
func cloneJSON[T any](value T) T {
	encoded, err := json.Marshal(value)
	if err != nil {
		panic("memory: a record that is no JSON: " + err.Error())
	}
	var clone T
	if err := json.Unmarshal(encoded, &clone); err != nil {
		panic("memory: a record that is no JSON: " + err.Error())
	}
	return clone
}

package memory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage"
)

// Version implements authserver.Store.
func (s *Store) Version(context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version, nil
}

// Client implements authserver.Store.
func (s *Store) Client(_ context.Context, clientID string) (*authserver.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.clients[clientID]
	if !ok {
		return nil, storage.ErrNotFound
	}
	c = cloneClient(c)
	return &c, nil
}

// RegisterClient implements authserver.Store.
func (s *Store) RegisterClient(_ context.Context, client *authserver.Client, most int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if client.Registration == nil {
		return fmt.Errorf("register client %q: it has no registration", client.ID)
	}
	if _, ok := s.clients[client.ID]; ok {
		return storage.ErrExists
	}
	registered := 0
	for _, c := range s.clients {
		if c.Registration != nil {
			registered++
		}
	}
	if registered >= most {
		return authserver.ErrTooManyClients
	}
	s.clients[client.ID] = cloneClient(*client)
	return nil
}

// UpdateClient implements authserver.Store.
func (s *Store) UpdateClient(_ context.Context, client *authserver.Client) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients[client.ID].Registration == nil {
		return storage.ErrNotFound
	}
	s.clients[client.ID] = cloneClient(*client)
	s.version++
	return nil
}

// KeepClient implements authserver.Store.
func (s *Store) KeepClient(_ context.Context, clientID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.clients[clientID]
	if !ok {
		return storage.ErrNotFound
	}
	if c.Registration != nil {
		c = cloneClient(c)
		c.Registration.UnusedUntil = time.Time{}
		s.clients[clientID] = c
	}
	return nil
}

// DeleteClient implements authserver.Store.
func (s *Store) DeleteClient(_ context.Context, clientID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(record{"client", clientID})
	return nil
}

// Resources implements authserver.Store.
func (s *Store) Resources(context.Context) ([]authserver.Resource, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sortedClones(s.resources), nil
}

// Scopes implements authserver.Store.
func (s *Store) Scopes(context.Context) ([]authserver.Scope, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sortedClones(s.scopes), nil
}

// Keys implements authserver.Store.
func (s *Store) Keys(context.Context) ([]authserver.Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.keys), nil
}

// UpdateKeys implements authserver.Store. update must not call the store.
func (s *Store) UpdateKeys(_ context.Context, update func([]authserver.Key) ([]authserver.Key, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys, err := update(slices.Clone(s.keys))
	if err != nil {
		return err
	}
	s.keys = slices.Clone(keys)
	for i := range s.keys {
		k := &s.keys[i]
		k.CreatedAt, k.SignsFrom, k.PublishedUntil = milliseconds(k.CreatedAt), milliseconds(k.SignsFrom), milliseconds(k.PublishedUntil)
	}
	slices.SortFunc(s.keys, func(a, b authserver.Key) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	s.version++
	return nil
}

// Grant implements authserver.Store.
func (s *Store) Grant(_ context.Context, subject, clientID string) (*authserver.Grant, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.grants {
		if g.Subject == subject && g.ClientID == clientID {
			g = cloneGrant(g)
			return &g, nil
		}
	}
	return nil, storage.ErrNotFound
}

// GrantsOf implements authserver.Store.
func (s *Store) GrantsOf(_ context.Context, subject string) ([]authserver.Grant, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var grants []authserver.Grant
	for _, g := range s.grants {
		if g.Subject == subject {
			grants = append(grants, cloneGrant(g))
		}
	}
	slices.SortFunc(grants, func(a, b authserver.Grant) int { return cmp.Compare(a.ClientID, b.ClientID) })
	return grants, nil
}

// PutGrant implements authserver.Store.
func (s *Store) PutGrant(_ context.Context, grant *authserver.Grant) error {
	if grant.ID == "" || grant.Subject == "" || grant.ClientID == "" {
		return errors.New("store grant: it has no ID, subject or client")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.grants {
		if g.Subject == grant.Subject && g.ClientID == grant.ClientID {
			grant.ID, grant.CreatedAt = g.ID, g.CreatedAt
		}
	}
	g := cloneGrant(*grant)
	g.CreatedAt, g.UpdatedAt = milliseconds(g.CreatedAt), milliseconds(g.UpdatedAt)
	s.grants[g.ID] = g
	return nil
}

// DeleteGrant implements authserver.Store.
func (s *Store) DeleteGrant(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deleteGrants(func(g authserver.Grant) bool { return g.ID == id })
	s.deleteTickets(func(t storage.Ticket) bool { return id != "" && t.Grant == id })
	return nil
}

func (s *Store) deleteGrants(match func(authserver.Grant) bool) {
	for id, g := range s.grants {
		if match(g) {
			delete(s.grants, id)
			s.deleteTickets(func(t storage.Ticket) bool { return t.Grant == id })
		}
	}
}

// SaveTraces implements authserver.Store.
func (s *Store) SaveTraces(_ context.Context, max int, traces ...authserver.Trace) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range traces {
		if !slices.ContainsFunc(s.traces, func(old authserver.Trace) bool { return old.Ref == t.Ref }) {
			s.traces = append(s.traces, cloneJSON(t))
		}
	}
	if old := len(s.traces) - max; old > 0 {
		s.traces = slices.Delete(s.traces, 0, old)
	}
	return nil
}

// Trace implements authserver.Store.
func (s *Store) Trace(_ context.Context, ref string) (*authserver.Trace, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.traces {
		if t.Ref == ref {
			t = cloneJSON(t)
			return &t, nil
		}
	}
	return nil, storage.ErrNotFound
}

// User implements identity.Store.
func (s *Store) User(_ context.Context, id string) (*identity.User, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, ok := s.users[id]
	if !ok {
		return nil, storage.ErrNotFound
	}
	u = cloneJSON(u)
	return &u, nil
}

// UserByIdentifier implements identity.Store.
func (s *Store) UserByIdentifier(_ context.Context, identifier string) (*identity.User, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.users {
		if slices.Contains(u.Identifiers(), identifier) {
			u = cloneJSON(u)
			return &u, nil
		}
	}
	return nil, storage.ErrNotFound
}

// PutUser implements identity.Store.
func (s *Store) PutUser(_ context.Context, user *identity.User) error {
	if user.ID == "" {
		return errors.New("store user: it has no ID")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.putUser(*user)
}

func (s *Store) putUser(user identity.User) error {
	mine := user.Identifiers()
	for _, other := range s.users {
		for _, identifier := range other.Identifiers() {
			if other.ID != user.ID && slices.Contains(mine, identifier) {
				return fmt.Errorf("user %q: %w", user.Username, identity.ErrIdentifierTaken)
			}
		}
	}
	user = cloneJSON(user)
	user.CreatedAt, user.UpdatedAt = milliseconds(user.CreatedAt), milliseconds(user.UpdatedAt)
	s.users[user.ID] = user
	if user.Disabled {
		s.endSessions(user.ID)
	}
	return nil
}

// endSessions deletes a person's sessions and stores the notes that they ended.
func (s *Store) endSessions(userID string) {
	for key, t := range s.tickets {
		if t.Family != identity.SessionFamily(userID) || t.Kind != identity.KindSession {
			continue
		}
		if note := identity.EndedNote(t); note != nil {
			s.tickets[note.Key] = *note
		}
		delete(s.tickets, key)
	}
}

// DeleteUser implements identity.Store.
func (s *Store) DeleteUser(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deleteUser(id)
	return nil
}

func (s *Store) deleteUser(id string) {
	s.endSessions(id)
	delete(s.users, id)
	s.deleteGrants(func(g authserver.Grant) bool { return g.Subject == id })
	s.deleteTickets(func(t storage.Ticket) bool { return t.Family == identity.SessionFamily(id) })
}

// Users implements identity.Store.
func (s *Store) Users(_ context.Context, after string, limit int) ([]identity.User, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var users []identity.User
	for _, id := range slices.Sorted(maps.Keys(s.users)) {
		if id > after && len(users) < limit {
			users = append(users, cloneJSON(s.users[id]))
		}
	}
	return users, nil
}

// HasAdministrator implements identity.Store.
func (s *Store) HasAdministrator(context.Context) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.users {
		if u.Administrator && !u.Disabled {
			return true, nil
		}
	}
	return false, nil
}

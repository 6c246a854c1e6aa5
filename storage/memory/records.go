package memory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/audited"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/record"
)

// Version implements record.Store.
func (s *Store) Version(context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version, nil
}

// Client implements record.Store.
func (s *Store) Client(_ context.Context, clientID string) (*record.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.clients[clientID]
	if !ok {
		return nil, storage.ErrNotFound
	}
	c = cloneClient(c)
	return &c, nil
}

// ClientNeeds implements record.Store.
func (s *Store) ClientNeeds(context.Context) ([]record.ClientNeeds, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []record.ClientNeeds
	for _, c := range s.clients {
		needs := c.Needs()
		if c.RetiredAt.IsZero() && !slices.ContainsFunc(all, func(n record.ClientNeeds) bool { return reflect.DeepEqual(n, needs) }) {
			all = append(all, needs)
		}
	}
	return all, nil
}

// RegisterClient implements record.Store.
func (s *Store) RegisterClient(ctx context.Context, client *record.Client, most int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if client.Registration == nil {
		return fmt.Errorf("register client %q: it has no Registration", client.ID)
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
	if registered >= most && !s.removeUnused(ctx, max(1, most/1000)) {
		return record.ErrTooManyClients
	}
	s.clients[client.ID] = cloneClient(*client)
	s.record(ctx, audited.Client(nil, client))
	return nil
}

// removeUnused removes at most n clients that were never used, the oldest first, and reports
// whether there were any.
func (s *Store) removeUnused(ctx context.Context, n int) bool {
	var unused []record.Client
	for _, c := range s.clients {
		if c.Registration.Removable() {
			unused = append(unused, c)
		}
	}
	slices.SortFunc(unused, func(a, b record.Client) int {
		return a.Registration.UnusedUntil.Compare(b.Registration.UnusedUntil)
	})
	for _, c := range unused[:min(n, len(unused))] {
		delete(s.clients, c.ID)
		s.record(ctx, audited.Client(&c, nil))
		s.version++
	}
	return len(unused) > 0
}

// UpdateClient implements record.Store.
func (s *Store) UpdateClient(ctx context.Context, clientID string, update func(*record.Client) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, ok := s.clients[clientID]
	if !ok {
		return storage.ErrNotFound
	}
	client := cloneClient(before)
	if err := update(&client); err != nil {
		return err
	}
	if client.ID != clientID {
		return fmt.Errorf("update client: the ID of %q cannot change", clientID)
	}
	s.storeClient(ctx, time.Now(), before, client)
	return nil
}

// storeClient replaces a client, and ends what was issued to it if the change requires that.
func (s *Store) storeClient(ctx context.Context, now time.Time, before, client record.Client) {
	client = cloneClient(client)
	if client.Settle(milliseconds(now), &before) {
		s.endClient(client.ID)
	}
	client.RetiredAt = milliseconds(client.RetiredAt)
	s.clients[client.ID] = client
	s.record(ctx, audited.Client(&before, &client))
	// Other nodes need not know that a client was used.
	used := cloneClient(before)
	if used.Registration != nil && client.Registration != nil {
		used.Registration.UnusedUntil = client.Registration.UnusedUntil
	}
	if !reflect.DeepEqual(used, cloneClient(client)) {
		s.version++
	}
}

// endClient ends what was issued to a client.
func (s *Store) endClient(clientID string) {
	s.deleteTickets(func(t storage.Ticket) bool {
		return t.Grant == record.ClientGrant(clientID) || t.Grant != "" && s.grants[t.Grant].ClientID == clientID
	})
}

// DeleteClient implements record.Store.
func (s *Store) DeleteClient(ctx context.Context, clientID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(ctx, declaration.Name{Kind: declaration.KindClient, Name: clientID})
	return nil
}

// Resources implements record.Store.
func (s *Store) Resources(context.Context) ([]record.Resource, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return active(s, declaration.KindResource, s.resources), nil
}

// Scopes implements record.Store.
func (s *Store) Scopes(context.Context) ([]record.Scope, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return active(s, declaration.KindScope, s.scopes), nil
}

// Keys implements record.Store.
func (s *Store) Keys(context.Context) ([]record.Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.keys), nil
}

// UpdateKeys implements record.Store. update must not call the store.
func (s *Store) UpdateKeys(ctx context.Context, update func([]record.Key) ([]record.Key, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys, err := update(slices.Clone(s.keys))
	if err != nil {
		return err
	}
	for _, r := range audited.Keys(s.keys, keys) {
		s.record(ctx, &r)
	}
	s.keys = slices.Clone(keys)
	for i := range s.keys {
		k := &s.keys[i]
		k.CreatedAt, k.SignsFrom, k.PublishedUntil = milliseconds(k.CreatedAt), milliseconds(k.SignsFrom), milliseconds(k.PublishedUntil)
	}
	slices.SortFunc(s.keys, func(a, b record.Key) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	s.version++
	return nil
}

// Grant implements record.Store.
func (s *Store) Grant(_ context.Context, subject, clientID string) (*record.Grant, error) {
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

// PutAndFind implements record.Store.
func (s *Store) PutAndFind(ctx context.Context, now time.Time, find record.Find, put ...storage.Ticket) (found record.Found, err error) {
	if err := s.Put(ctx, now, put...); err != nil {
		return found, err
	}
	ticket, err := s.Get(ctx, now, find.Key)
	if err == nil {
		found.Ticket = &ticket
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, found.Grant = s.grants[find.Grant]
	return found, nil
}

// GrantsOf implements record.Store.
func (s *Store) GrantsOf(_ context.Context, subject string) ([]record.Grant, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var grants []record.Grant
	for _, g := range s.grants {
		if g.Subject == subject {
			grants = append(grants, cloneGrant(g))
		}
	}
	slices.SortFunc(grants, func(a, b record.Grant) int { return cmp.Compare(a.ClientID, b.ClientID) })
	return grants, nil
}

// UpdateGrant implements record.Store.
func (s *Store) UpdateGrant(ctx context.Context, subject, clientID string, update func(*record.Grant) error) (*record.Grant, error) {
	if subject == "" || clientID == "" {
		return nil, errors.New("update grant: the subject or client is missing")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	grant := record.Grant{ID: storage.NewID(), Subject: subject, ClientID: clientID}
	var before *record.Grant
	for _, g := range s.grants {
		if g.Subject == subject && g.ClientID == clientID {
			grant = cloneGrant(g)
			before = &g
		}
	}
	id := grant.ID
	if err := update(&grant); err != nil {
		return nil, err
	}
	if grant.ID != id || grant.Subject != subject || grant.ClientID != clientID {
		return nil, fmt.Errorf("update grant: the ID, subject and client of %q cannot change", id)
	}
	grant.CreatedAt, grant.UpdatedAt = milliseconds(grant.CreatedAt), milliseconds(grant.UpdatedAt)
	s.grants[id] = cloneGrant(grant)
	s.record(ctx, audited.Grant(before, &grant))
	return &grant, nil
}

// DeleteGrant implements record.Store.
func (s *Store) DeleteGrant(ctx context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deleteGrants(ctx, func(g record.Grant) bool { return g.ID == id })
	s.deleteTickets(func(t storage.Ticket) bool { return id != "" && t.Grant == id })
	return nil
}

func (s *Store) deleteGrants(ctx context.Context, match func(record.Grant) bool) {
	for id, g := range s.grants {
		if match(g) {
			s.record(ctx, audited.Grant(&g, nil))
			delete(s.grants, id)
			s.deleteTickets(func(t storage.Ticket) bool { return t.Grant == id })
		}
	}
}

// SaveTraces implements record.Store.
func (s *Store) SaveTraces(_ context.Context, max int, traces ...record.Trace) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range traces {
		if !slices.ContainsFunc(s.traces, func(old record.Trace) bool { return old.Ref == t.Ref }) {
			s.traces = append(s.traces, cloneJSON(t))
		}
	}
	left := map[bool]int{}
	for _, t := range traces {
		left[t.Accepted()] = max
	}
	for i := len(s.traces) - 1; i >= 0; i-- {
		accepted := s.traces[i].Accepted()
		n, saved := left[accepted]
		switch {
		case saved && n == 0:
			s.traces = slices.Delete(s.traces, i, i+1)
		case saved:
			left[accepted]--
		}
	}
	return nil
}

// Trace implements record.Store.
func (s *Store) Trace(_ context.Context, ref string) (*record.Trace, error) {
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

// CachedUser implements identity.Store.
func (s *Store) CachedUser(ctx context.Context, id string) (*identity.User, error) {
	u, err := s.User(ctx, id)
	if err != nil {
		return nil, err
	}
	u.PasswordHash, u.DeclaredPassword, u.UserCodeHash, u.Authenticators = "", "", "", nil
	u.Account.ForMemory()
	return u, nil
}

// UserValidity implements identity.Store.
func (s *Store) UserValidity(_ context.Context, id string) (identity.Validity, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, ok := s.users[id]
	if !ok {
		return identity.Validity{}, storage.ErrNotFound
	}
	u = cloneJSON(u)
	return u.Validity(), nil
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

// UserByExternal implements identity.Store.
func (s *Store) UserByExternal(_ context.Context, issuer, subject string) (*identity.User, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.users {
		if slices.Contains(u.ExternalKeys(), identity.ExternalKey{Issuer: issuer, Subject: subject}) {
			u = cloneJSON(u)
			return &u, nil
		}
	}
	return nil, storage.ErrNotFound
}

// CreateUser implements identity.Store.
func (s *Store) CreateUser(ctx context.Context, user *identity.User) error {
	if user.ID == "" {
		return errors.New("create user: the user has no ID")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.users[user.ID]; ok {
		return storage.ErrExists
	}
	return s.createUser(ctx, *user)
}

func (s *Store) createUser(ctx context.Context, user identity.User) error {
	if err := s.storeUser(user); err != nil {
		return err
	}
	s.record(ctx, audited.User(nil, &user))
	return nil
}

// UpdateUser implements identity.Store.
func (s *Store) UpdateUser(ctx context.Context, id string, update func(*identity.User) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.updateUser(ctx, time.Now(), id, func(user *identity.User) error {
		before := user.Administers()
		if err := update(user); err != nil {
			return err
		}
		if before && !user.Administers() && !s.hasAdministrator(id) {
			return identity.ErrLastAdministrator
		}
		return nil
	})
}

func (s *Store) updateUser(ctx context.Context, now time.Time, id string, update func(*identity.User) error) error {
	before, ok := s.users[id]
	if !ok {
		return storage.ErrNotFound
	}
	user := cloneJSON(before)
	if err := update(&user); err != nil {
		return err
	}
	if user.ID != id {
		return fmt.Errorf("update user: the ID of %q cannot change", id)
	}
	ends := user.Settle(now, &before)
	if err := s.storeUser(user); err != nil {
		return err
	}
	s.record(ctx, audited.User(&before, &user))
	if user.Forgotten {
		s.deleteGrants(ctx, func(g record.Grant) bool { return g.Subject == id })
	}
	if ends {
		s.endUser(&user)
	}
	return nil
}

func (s *Store) storeUser(user identity.User) error {
	mine, links := user.Identifiers(), user.ExternalKeys()
	for _, other := range s.users {
		if other.ID != user.ID && slices.ContainsFunc(other.ExternalKeys(), func(key identity.ExternalKey) bool { return slices.Contains(links, key) }) {
			return fmt.Errorf("user %q: %w", user.Username, identity.ErrExternalTaken)
		}
		for _, identifier := range other.Identifiers() {
			if other.ID != user.ID && slices.Contains(mine, identifier) {
				return fmt.Errorf("user %q: %w", user.Username, identity.ErrIdentifierTaken)
			}
		}
	}
	if _, err := identity.EncodeAuthenticators(user.Authenticators); err != nil {
		return err
	}
	if _, err := identity.EncodeExternal(user.External); err != nil {
		return err
	}
	user = cloneJSON(user)
	for _, t := range []*time.Time{&user.CreatedAt, &user.UpdatedAt, &user.RetiredAt, &user.EndedAt} {
		*t = milliseconds(*t)
	}
	s.users[user.ID] = user
	return nil
}

// endUser ends what was issued to a user, except what belongs to a session in user.Kept.
func (s *Store) endUser(user *identity.User) {
	family, kept := identity.SessionFamily(user.ID), map[string]bool{}
	for _, t := range s.tickets {
		if t.Family != "" && slices.Contains(user.Kept, record.SessionOf(t)) {
			kept[storage.RootFamily(t.Family)] = true
		}
	}
	for key, t := range s.tickets {
		if t.Family != family || t.Kind != identity.KindSession || user.Keeps(t) {
			continue
		}
		if note := identity.EndedNote(t); note != nil {
			s.tickets[note.Key] = *note
		}
		delete(s.tickets, key)
	}
	s.deleteTickets(func(t storage.Ticket) bool {
		if t.Family == family {
			return !user.Keeps(t)
		}
		return t.Grant != "" && s.grants[t.Grant].Subject == user.ID && !kept[storage.RootFamily(t.Family)]
	})
}

// DeleteUser implements identity.Store.
func (s *Store) DeleteUser(ctx context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if user := s.users[id]; user.Administers() && !s.hasAdministrator(id) {
		return identity.ErrLastAdministrator
	}
	s.deleteUser(ctx, id)
	return nil
}

func (s *Store) deleteUser(ctx context.Context, id string) {
	s.endUser(&identity.User{ID: id})
	s.deleteTickets(func(t storage.Ticket) bool { return slices.Contains(identity.AccountFamilies(id), t.Family) })
	if user, ok := s.users[id]; ok {
		s.record(ctx, audited.User(&user, nil))
	}
	delete(s.users, id)
	s.deleteGrants(ctx, func(g record.Grant) bool { return g.Subject == id })
	s.deleteUses(func(use storage.Use) bool { return use.Owner == id })
}

// DueUsers implements identity.Store.
func (s *Store) DueUsers(_ context.Context, now time.Time, limit int) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	due := func(id string) time.Time { u := s.users[id]; return u.Due() }
	ids := slices.SortedFunc(maps.Keys(s.users), func(a, b string) int { return cmp.Or(due(a).Compare(due(b)), cmp.Compare(a, b)) })
	ids = slices.DeleteFunc(ids, func(id string) bool { return due(id).IsZero() || due(id).After(now) })
	return ids[:min(len(ids), max(limit, 0))], nil
}

// EraseUser implements identity.Store.
func (s *Store) EraseUser(ctx context.Context, now time.Time, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u, ok := s.users[id]; !ok || !u.Erasable(now) {
		return storage.ErrNotFound
	}
	s.deleteUser(ctx, id)
	return nil
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
func (s *Store) HasAdministrator(_ context.Context, except string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hasAdministrator(except), nil
}

func (s *Store) hasAdministrator(except string) bool {
	for _, u := range s.users {
		if u.Administers() && u.ID != except {
			return true
		}
	}
	return false
}

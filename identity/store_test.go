package identity

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/valetkey/valetkey/storage"
)

// mapStore is a minimal implementation of Store: maps and a lock.
type mapStore struct {
	mu      sync.Mutex
	tickets map[storage.Key]storage.Ticket
	users   map[string]User
	counts  map[storage.CountKey]time.Time
}

func newMapStore(users ...*User) *mapStore {
	s := &mapStore{tickets: map[storage.Key]storage.Ticket{}, users: map[string]User{}, counts: map[storage.CountKey]time.Time{}}
	for _, u := range users {
		s.users[u.ID] = *u
	}
	return s
}

func (s *mapStore) live(now time.Time, key storage.Key) (storage.Ticket, bool) {
	t, ok := s.tickets[key]
	return t, ok && now.Before(t.Expires)
}

func (s *mapStore) Put(ctx context.Context, now time.Time, tickets ...storage.Ticket) error {
	return s.Spend(ctx, now, nil, tickets...)
}

func (s *mapStore) Get(_ context.Context, now time.Time, key storage.Key) (storage.Ticket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t, ok := s.live(now, key); ok {
		return t, nil
	}
	return storage.Ticket{}, storage.ErrNotFound
}

func (s *mapStore) GetAll(ctx context.Context, now time.Time, keys ...storage.Key) (found []storage.Ticket, err error) {
	for _, key := range keys {
		if t, err := s.Get(ctx, now, key); err == nil {
			found = append(found, t)
		}
	}
	return found, nil
}

func (s *mapStore) Spend(_ context.Context, now time.Time, spend []storage.Key, put ...storage.Ticket) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range spend {
		t, ok := s.live(now, key)
		if !ok {
			return storage.ErrNotFound
		}
		if !t.Spent.IsZero() {
			return storage.ErrSpent
		}
	}
	for _, t := range put {
		if _, ok := s.live(now, t.Key); ok {
			return storage.ErrExists
		}
	}
	for _, key := range spend {
		t := s.tickets[key]
		t.Spent = now
		s.tickets[key] = t
	}
	for _, t := range put {
		s.tickets[t.Key] = t
	}
	return nil
}

func (s *mapStore) SetExpires(_ context.Context, now time.Time, key storage.Key, expires time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.live(now, key)
	if !ok {
		return storage.ErrNotFound
	}
	if !t.Spent.IsZero() {
		return storage.ErrSpent
	}
	t.Expires = expires
	s.tickets[key] = t
	return nil
}

func (s *mapStore) Delete(_ context.Context, keys ...storage.Key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range keys {
		delete(s.tickets, key)
	}
	return nil
}

func (s *mapStore) DeleteFamily(_ context.Context, family string, kinds ...storage.Kind) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.tickets, func(key storage.Key, t storage.Ticket) bool {
		return t.Family == family && (len(kinds) == 0 || slices.Contains(kinds, key.Kind))
	})
	return nil
}

func (s *mapStore) CachedUser(ctx context.Context, id string) (*User, error) {
	return s.User(ctx, id)
}

func (s *mapStore) UserValidity(ctx context.Context, id string) (Validity, error) {
	user, err := s.User(ctx, id)
	if err != nil {
		return Validity{}, err
	}
	return user.Validity(), nil
}

func (s *mapStore) FindEnded(context.Context, time.Time, int) ([]storage.Ticket, error) {
	return nil, nil // sign-in does not use tickets of storage.KindStatus
}

func (s *mapStore) FindFamily(_ context.Context, now time.Time, family string, kind storage.Kind, limit int) ([]storage.Ticket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []storage.Ticket
	for key, t := range s.tickets {
		if _, ok := s.live(now, key); ok && t.Family == family && key.Kind == kind {
			found = append(found, t)
		}
	}
	slices.SortFunc(found, func(a, b storage.Ticket) int { return b.Expires.Compare(a.Expires) })
	return found[:min(limit, len(found))], nil
}

func (s *mapStore) User(_ context.Context, id string) (*User, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u, ok := s.users[id]; ok {
		return &u, nil
	}
	return nil, storage.ErrNotFound
}

func (s *mapStore) UserByIdentifier(_ context.Context, identifier string) (*User, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.users {
		if slices.Contains(u.Identifiers(), identifier) {
			return &u, nil
		}
	}
	return nil, storage.ErrNotFound
}

func (s *mapStore) UserByExternal(_ context.Context, issuer, subject string) (*User, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.users {
		if u.externalLink(issuer, subject) != nil {
			return u.Clone(), nil
		}
	}
	return nil, storage.ErrNotFound
}

func (s *mapStore) CreateUser(_ context.Context, user *User) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.storeUser(user)
}

func (s *mapStore) UpdateUser(ctx context.Context, id string, update func(*User) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, ok := s.users[id]
	if !ok {
		return storage.ErrNotFound
	}
	user := before
	if err := update(&user); err != nil {
		return err
	}
	if user.Settle(time.Now(), &before) {
		for key, t := range s.tickets {
			if t.Family != SessionFamily(id) || user.Keeps(t) {
				continue
			}
			if note := EndedNote(t); note != nil && key.Kind == KindSession {
				s.tickets[note.Key] = *note
			}
			delete(s.tickets, key)
		}
	}
	return s.storeUser(&user)
}

func (s *mapStore) storeUser(user *User) error {
	for _, u := range s.users {
		for _, identifier := range user.Identifiers() {
			if u.ID != user.ID && slices.Contains(u.Identifiers(), identifier) {
				return ErrIdentifierTaken
			}
		}
	}
	s.users[user.ID] = *user
	return nil
}

func (s *mapStore) DeleteUser(ctx context.Context, id string) error {
	s.mu.Lock()
	delete(s.users, id)
	s.mu.Unlock()
	return s.DeleteFamily(ctx, SessionFamily(id))
}

func (s *mapStore) Users(_ context.Context, after string, limit int) ([]User, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var users []User
	for _, id := range slices.Sorted(maps.Keys(s.users)) {
		if strings.Compare(id, after) > 0 && len(users) < limit {
			users = append(users, s.users[id])
		}
	}
	return users, nil
}

func (s *mapStore) HasAdministrator(_ context.Context, except string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.users {
		if u.Administrator && u.Active() && u.ID != except {
			return true, nil
		}
	}
	return false, nil
}

func (s *mapStore) CountedUntil(_ context.Context, _ time.Time, keys ...storage.CountKey) (untils []time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range keys {
		untils = append(untils, s.counts[key])
	}
	return untils, nil
}

func (s *mapStore) AddCounts(_ context.Context, counts ...storage.Count) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range counts {
		until := s.counts[c.Key]
		if c.Reset || until.Before(c.At) {
			until = c.At
		}
		s.counts[c.Key] = until.Add(c.Add)
	}
	return nil
}

func (s *mapStore) PasswordHashKinds(context.Context) (kinds []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.users {
		if kind := PasswordHashKind(u.PasswordHash); kind != "" && !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	return kinds, nil
}

func (s *mapStore) DueUsers(_ context.Context, now time.Time, limit int) (ids []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, u := range s.users {
		if due := u.Due(); !due.IsZero() && !now.Before(due) && len(ids) < limit {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func (s *mapStore) EraseUser(ctx context.Context, now time.Time, id string) error {
	if user, err := s.User(ctx, id); err != nil || !user.Erasable(now) {
		return storage.ErrNotFound
	}
	return s.DeleteUser(ctx, id)
}

func (s *mapStore) RecordUses(_ context.Context, uses ...storage.Use) error { return nil }

func (s *mapStore) UsesOf(context.Context, time.Time, string) ([]storage.Use, error) { return nil, nil }

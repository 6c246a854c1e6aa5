// Package memory implements the storage contracts with maps and one lock. Nothing survives the
// process. It is for tests, and shows what the contracts mean.
package memory

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/audited"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/record"
)

var (
	_ record.Store   = (*Store)(nil)
	_ identity.Store = (*Store)(nil)
	_ audit.Log      = (*Store)(nil)
)

// Store implements record.Store and identity.Store. It is safe for concurrent use.
type Store struct {
	*outbox
	mail *outbox

	mu      sync.Mutex
	tickets map[storage.Key]storage.Ticket
	users   map[string]identity.User
	grants  map[string]record.Grant
	traces  []record.Trace
	counts  map[storage.CountKey]time.Time
	uses    map[useKey]storage.Use

	audit []audit.Record // in the order in which they were written
	chain audit.Chain

	version   int64
	clients   map[string]record.Client
	scopes    map[string]record.Scope
	resources map[string]record.Resource
	keys      []record.Key
	notes     map[recordName]note
	versions  map[string][]declaration.Version // by source, the last one first
}

// New returns an empty store.
func New() *Store {
	return &Store{
		tickets:   map[storage.Key]storage.Ticket{},
		users:     map[string]identity.User{},
		grants:    map[string]record.Grant{},
		outbox:    &outbox{messages: map[string]waiting{}},
		mail:      &outbox{messages: map[string]waiting{}},
		counts:    map[storage.CountKey]time.Time{},
		uses:      map[useKey]storage.Use{},
		clients:   map[string]record.Client{},
		scopes:    map[string]record.Scope{},
		resources: map[string]record.Resource{},
		notes:     map[recordName]note{},
		versions:  map[string][]declaration.Version{},
	}
}

// Put implements storage.Tickets.
func (s *Store) Put(ctx context.Context, now time.Time, tickets ...storage.Ticket) error {
	return s.Spend(ctx, now, nil, tickets...)
}

// Get implements storage.Tickets.
func (s *Store) Get(_ context.Context, now time.Time, key storage.Key) (storage.Ticket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t, ok := s.live(now, key); ok {
		t.Data = bytes.Clone(t.Data)
		return t, nil
	}
	return storage.Ticket{}, storage.ErrNotFound
}

// GetAll implements storage.Tickets.
func (s *Store) GetAll(ctx context.Context, now time.Time, keys ...storage.Key) ([]storage.Ticket, error) {
	var found []storage.Ticket
	for _, key := range keys {
		if t, err := s.Get(ctx, now, key); err == nil {
			found = append(found, t)
		}
	}
	return found, nil
}

// Spend implements storage.Tickets.
func (s *Store) Spend(ctx context.Context, now time.Time, spend []storage.Key, put ...storage.Ticket) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	spent := map[storage.Key]bool{}
	for _, key := range spend {
		t, ok := s.live(now, key)
		if !ok {
			return storage.ErrNotFound
		}
		if !t.Spent.IsZero() || spent[key] {
			return storage.ErrSpent
		}
		spent[key] = true
	}
	stored := map[storage.Key]bool{}
	for _, t := range put {
		if len(t.Data) > storage.MaxData {
			return fmt.Errorf("store %s: %d bytes of data, more than %d", t.Kind, len(t.Data), storage.MaxData)
		}
		if _, ok := s.live(now, t.Key); ok || stored[t.Key] {
			return storage.ErrExists
		}
		stored[t.Key] = now.UnixMilli() < t.Expires.UnixMilli()
	}
	for key := range spent {
		t := s.tickets[key]
		t.Spent = milliseconds(now)
		s.tickets[key] = t
	}
	for _, t := range put {
		t.Data = bytes.Clone(t.Data)
		t.Expires, t.Spent = milliseconds(t.Expires), milliseconds(t.Spent)
		s.tickets[t.Key] = t
	}
	s.recordTickets(ctx, true)
	return nil
}

// SetExpires implements storage.Tickets.
func (s *Store) SetExpires(_ context.Context, now time.Time, key storage.Key, expires time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.live(now, key)
	if !ok {
		return storage.ErrNotFound
	}
	if !t.Spent.IsZero() {
		return storage.ErrSpent
	}
	t.Expires = milliseconds(expires)
	s.tickets[key] = t
	return nil
}

// Delete implements storage.Tickets.
func (s *Store) Delete(ctx context.Context, keys ...storage.Key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	removed := false
	for _, key := range keys {
		removed = s.removeTicket(key) || removed
	}
	s.recordTickets(ctx, removed)
	return nil
}

// DeleteFamily implements storage.Tickets.
func (s *Store) DeleteFamily(ctx context.Context, family string, kinds ...storage.Kind) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	removed := s.deleteTickets(func(t storage.Ticket) bool {
		return family != "" && family <= t.Family && t.Family < storage.AfterFamily(family) && (len(kinds) == 0 || slices.Contains(kinds, t.Kind))
	})
	s.recordTickets(ctx, removed)
	return nil
}

// FindEnded implements storage.Tickets.
func (s *Store) FindEnded(_ context.Context, now time.Time, limit int) ([]storage.Ticket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []storage.Ticket
	for key, t := range s.tickets {
		if _, ok := s.live(now, key); ok && key.Kind == storage.KindStatus && !t.Spent.IsZero() && len(found) < limit {
			t.Data = bytes.Clone(t.Data)
			found = append(found, t)
		}
	}
	return found, nil
}

// FindFamily implements storage.Tickets.
func (s *Store) FindFamily(_ context.Context, now time.Time, family string, kind storage.Kind, limit int) ([]storage.Ticket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []storage.Ticket
	for key, t := range s.tickets {
		if _, ok := s.live(now, key); ok && family != "" && t.Family == family && t.Kind == kind {
			t.Data = bytes.Clone(t.Data)
			found = append(found, t)
		}
	}
	slices.SortFunc(found, func(a, b storage.Ticket) int {
		return cmp.Or(b.Expires.Compare(a.Expires), bytes.Compare(a.ID[:], b.ID[:]))
	})
	return found[:min(max(limit, 0), len(found))], nil
}

// Reclaim deletes expired tickets, and clients that registered themselves and were not
// used in time, and returns how many it deleted.
func (s *Store) Reclaim(ctx context.Context, now time.Time) (removed int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.tickets)
	maps.DeleteFunc(s.tickets, func(_ storage.Key, t storage.Ticket) bool { return t.Expires.UnixMilli() <= now.UnixMilli() })
	removed = before - len(s.tickets)
	s.deleteUses(func(use storage.Use) bool { return !now.Before(use.Expires) })
	for id, c := range s.clients {
		if r := c.Registration; r != nil && !r.UnusedUntil.IsZero() && !now.Before(r.UnusedUntil) {
			s.record(ctx, audited.Client(&c, nil))
			delete(s.clients, id)
			removed++
		}
	}
	// A concurrent request may have stored tickets of users and clients that became inactive.
	for _, u := range s.users {
		if !u.Active() {
			s.endUser(&u)
		}
	}
	for _, c := range s.clients {
		if !c.Active() {
			s.endClient(c.ID)
		}
	}
	return removed, nil
}

func (s *Store) live(now time.Time, key storage.Key) (storage.Ticket, bool) {
	t, ok := s.tickets[key]
	return t, ok && now.UnixMilli() < t.Expires.UnixMilli()
}

func (s *Store) deleteTickets(match func(storage.Ticket) bool) (removed bool) {
	for key, t := range s.tickets {
		if match(t) {
			removed = s.removeTicket(key) || removed
		}
	}
	return removed
}

// removeTicket removes a ticket, or marks it as spent if it is of KindStatus, and reports whether it
// changed anything.
func (s *Store) removeTicket(key storage.Key) bool {
	t, ok := s.tickets[key]
	if !ok || t.Kind != storage.KindStatus {
		delete(s.tickets, key)
		return ok
	}
	if !t.Spent.IsZero() {
		return false
	}
	t.Spent = time.UnixMilli(1).UTC()
	s.tickets[key] = t
	return true
}

// milliseconds rounds a time down to the precision that every store keeps.
func milliseconds(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return time.UnixMilli(t.UnixMilli()).UTC()
}

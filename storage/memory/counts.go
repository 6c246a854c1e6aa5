package memory

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage"
)

// CountedUntil implements storage.Counts.
func (s *Store) CountedUntil(_ context.Context, _ time.Time, keys ...storage.CountKey) ([]time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	untils := make([]time.Time, len(keys))
	for i, key := range keys {
		untils[i] = s.counts[key]
	}
	return untils, nil
}

// AddCounts implements storage.Counts.
func (s *Store) AddCounts(_ context.Context, counts ...storage.Count) error {
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

// PasswordHashKinds implements identity.Store.
func (s *Store) PasswordHashKinds(context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[string]bool{}
	for _, u := range s.users {
		seen[identity.PasswordHashKind(u.PasswordHash)] = true
	}
	delete(seen, "")
	return slices.Sorted(maps.Keys(seen)), nil
}

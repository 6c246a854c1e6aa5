package memory

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/valetkey/valetkey/storage"
)

// useKey identifies a use.
type useKey struct{ owner, name string }

// RecordUses implements storage.Uses.
func (s *Store) RecordUses(_ context.Context, uses ...storage.Use) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, use := range uses {
		use.At, use.Expires = milliseconds(use.At), milliseconds(use.Expires)
		if key := (useKey{use.Owner, use.Name}); !s.uses[key].At.After(use.At) {
			s.uses[key] = use
		}
	}
	return nil
}

// UsesOf implements storage.Uses.
func (s *Store) UsesOf(_ context.Context, now time.Time, owner string) ([]storage.Use, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []storage.Use
	for key, use := range s.uses {
		if key.owner == owner && now.Before(use.Expires) {
			found = append(found, use)
		}
	}
	slices.SortFunc(found, func(a, b storage.Use) int { return cmp.Compare(a.Name, b.Name) })
	return found[:min(len(found), 1000)], nil
}

func (s *Store) deleteUses(match func(storage.Use) bool) {
	maps.DeleteFunc(s.uses, func(_ useKey, use storage.Use) bool { return match(use) })
}

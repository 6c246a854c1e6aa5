package memory

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/valetkey/valetkey/storage"
)

// Enqueue implements storage.Outbox.
func (s *Store) Enqueue(_ context.Context, messages ...storage.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range messages {
		if len(m.Data) > storage.MaxData {
			return fmt.Errorf("enqueue a message: %d bytes of data, more than %d", len(m.Data), storage.MaxData)
		}
	}
	for _, m := range messages {
		if _, exists := s.outbox[m.ID]; !exists {
			m.Data, m.Created, m.Due = bytes.Clone(m.Data), milliseconds(m.Created), milliseconds(m.Due)
			s.outbox[m.ID] = waiting{Message: m}
		}
	}
	return nil
}

// waiting is a message in the outbox.
type waiting struct {
	storage.Message
	claimed time.Time // until then; zero if it is not claimed
}

// Claim implements storage.Outbox.
func (s *Store) Claim(_ context.Context, now, until time.Time, limit, perOwner int) ([]storage.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var due []waiting
	claimed := map[string]int{}
	for _, m := range s.outbox {
		if m.Due.UnixMilli() <= now.UnixMilli() {
			due = append(due, m)
		} else if m.claimed.UnixMilli() > now.UnixMilli() {
			claimed[m.Owner]++
		}
	}
	slices.SortFunc(due, func(a, b waiting) int { return cmp.Or(a.Due.Compare(b.Due), cmp.Compare(a.ID, b.ID)) })
	// Owners take turns.
	turns := map[string]int{}
	turn := map[string]int{}
	due = slices.DeleteFunc(due, func(m waiting) bool {
		turns[m.Owner]++
		turn[m.ID] = turns[m.Owner]
		return turns[m.Owner]+claimed[m.Owner] > perOwner
	})
	slices.SortStableFunc(due, func(a, b waiting) int { return cmp.Compare(turn[a.ID], turn[b.ID]) })
	var messages []storage.Message
	for _, m := range due[:min(max(limit, 0), len(due))] {
		m.Attempts++
		m.Due = milliseconds(until)
		m.claimed = m.Due
		s.outbox[m.ID] = m
		m.Data = bytes.Clone(m.Data)
		messages = append(messages, m.Message)
	}
	return messages, nil
}

// Postpone implements storage.Outbox.
func (s *Store) Postpone(_ context.Context, id string, due time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.outbox[id]; ok {
		m.Due, m.claimed = milliseconds(due), time.Time{}
		s.outbox[id] = m
	}
	return nil
}

// Remove implements storage.Outbox.
func (s *Store) Remove(_ context.Context, ids ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		delete(s.outbox, id)
	}
	return nil
}

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
		if _, waits := s.outbox[m.ID]; !waits {
			m.Data, m.Created, m.Due = bytes.Clone(m.Data), milliseconds(m.Created), milliseconds(m.Due)
			s.outbox[m.ID] = m
		}
	}
	return nil
}

// Claim implements storage.Outbox.
func (s *Store) Claim(_ context.Context, now, until time.Time, limit int) ([]storage.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var due []storage.Message
	for _, m := range s.outbox {
		if m.Due.UnixMilli() <= now.UnixMilli() {
			due = append(due, m)
		}
	}
	slices.SortFunc(due, func(a, b storage.Message) int { return cmp.Or(a.Due.Compare(b.Due), cmp.Compare(a.ID, b.ID)) })
	due = due[:min(max(limit, 0), len(due))]
	for i := range due {
		due[i].Attempts++
		due[i].Due = milliseconds(until)
		s.outbox[due[i].ID] = due[i]
		due[i].Data = bytes.Clone(due[i].Data)
	}
	return due, nil
}

// Postpone implements storage.Outbox.
func (s *Store) Postpone(_ context.Context, id string, due time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.outbox[id]; ok {
		m.Due = milliseconds(due)
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

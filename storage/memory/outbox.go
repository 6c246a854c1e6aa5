package memory

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/valetkey/valetkey/storage"
)

// outbox implements storage.Outbox.
type outbox struct {
	mu       sync.Mutex
	messages map[string]waiting
}

// Mail returns the outbox with the messages to users. The Store itself has those to clients.
func (s *Store) Mail() storage.Outbox { return s.mail }

// Enqueue implements storage.Outbox.
func (o *outbox) Enqueue(_ context.Context, messages ...storage.Message) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range messages {
		if len(m.Data) > storage.MaxData {
			return fmt.Errorf("enqueue a message: %d bytes of data, more than %d", len(m.Data), storage.MaxData)
		}
	}
	for _, m := range messages {
		if _, exists := o.messages[m.ID]; !exists {
			m.Data, m.Created, m.Due = bytes.Clone(m.Data), milliseconds(m.Created), milliseconds(m.Due)
			o.messages[m.ID] = waiting{Message: m}
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
func (o *outbox) Claim(_ context.Context, now, until time.Time, limit, perOwner int) ([]storage.Message, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var due []waiting
	claimed := map[string]int{}
	for _, m := range o.messages {
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
		o.messages[m.ID] = m
		m.Data = bytes.Clone(m.Data)
		messages = append(messages, m.Message)
	}
	return messages, nil
}

// Postpone implements storage.Outbox.
func (o *outbox) Postpone(_ context.Context, id string, due time.Time) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if m, ok := o.messages[id]; ok {
		m.Due, m.claimed = milliseconds(due), time.Time{}
		o.messages[id] = m
	}
	return nil
}

// Waiting implements storage.Outbox.
func (o *outbox) Waiting(_ context.Context, owner string) (n int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range o.messages {
		if m.Owner == owner {
			n++
		}
	}
	return n, nil
}

// Remove implements storage.Outbox.
func (o *outbox) Remove(_ context.Context, ids ...string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, id := range ids {
		delete(o.messages, id)
	}
	return nil
}

// Fail implements storage.Outbox. Nobody reads the failed messages of a store in memory.
func (o *outbox) Fail(ctx context.Context, id string, _ time.Time, _ string) error {
	return o.Remove(ctx, id)
}

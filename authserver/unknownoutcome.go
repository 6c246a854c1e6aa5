package authserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/storage"
)

const (
	// unknownOutcomeLifetime is how long the client may try again.
	unknownOutcomeLifetime = 10 * time.Minute
	// unknownOutcomeRetry is the pause between two attempts to store a note, which lets other
	// nodes see it. unknownOutcomePatience bounds one attempt.
	unknownOutcomeRetry    = 250 * time.Millisecond
	unknownOutcomePatience = 3 * time.Second
	maxUnknownOutcomes     = 1000
)

// unknownOutcome is an attempt to spend a ticket that got no response.
type unknownOutcome struct {
	Spent int64         `json:"s"` // when, in Unix milliseconds
	Put   []storage.Key `json:"p"` // the tickets that exist if it took effect
}

// unknownOutcomes has the notes that are not in the store yet.
type unknownOutcomes struct {
	known recent[storage.Key, storage.Ticket]
	queue chan storage.Ticket
	stop  context.CancelFunc
	work  sync.WaitGroup
}

func (s *Server) startUnknownOutcomes() {
	ctx, cancel := context.WithCancel(context.Background())
	s.unknownOutcomes.queue, s.unknownOutcomes.stop = make(chan storage.Ticket, maxUnknownOutcomes), cancel
	s.unknownOutcomes.work.Go(func() {
		for {
			select {
			case note := <-s.unknownOutcomes.queue:
				s.storeUnknownOutcome(ctx, note)
			case <-ctx.Done():
				return
			}
		}
	})
}

// storeUnknownOutcome tries to store a note until the store is available again.
func (s *Server) storeUnknownOutcome(ctx context.Context, note storage.Ticket) {
	for time.Now().Before(note.Expires) {
		try, cancel := context.WithTimeout(ctx, unknownOutcomePatience)
		err := s.config.Store.Put(try, time.Now(), note)
		cancel()
		if err == nil || errors.Is(err, storage.ErrExists) {
			return
		}
		select {
		case <-ctx.Done():
			s.log.WarnContext(ctx, "outcome of a request not stored; if the client repeats the request, it may be refused as a replay", "error", err)
			return
		case <-time.After(unknownOutcomeRetry):
		}
	}
}

// noteUnknownOutcome records that the request may or may not have taken effect.
func (c *call) noteUnknownOutcome(ent *entitlement, put []storage.Ticket) {
	spent := ent.spend[0]
	if spent.Kind == ticketkind.UnknownOutcome {
		return // there is a note already, and it may be spent
	}
	note := unknownOutcome{Spent: c.now.UnixMilli()}
	for _, ticket := range put {
		if ticket.Kind != ticketkind.Authorization {
			note.Put = append(note.Put, ticket.Key)
		}
	}
	data, err := json.Marshal(note)
	if err != nil { // numbers and bytes always encode
		return
	}
	ticket := storage.Ticket{
		Key: storage.Key{Kind: ticketkind.UnknownOutcome, ID: spent.ID}, Grant: ent.authorization.Grant, Family: ent.authorization.Family,
		Data: data, Expires: c.now.Add(unknownOutcomeLifetime),
	}
	c.s.unknownOutcomes.known.put(ticket.Key, ticket)
	select {
	case c.s.unknownOutcomes.queue <- ticket:
	default: // the queue is full; this node has the note in memory
	}
}

// unansweredAttempt returns the note about a ticket that was spent by an attempt that got no
// response; nil if there is none.
func (c *call) unansweredAttempt(ticket storage.Ticket) (*unknownOutcome, error) {
	key := storage.Key{Kind: ticketkind.UnknownOutcome, ID: ticket.ID}
	stored, known := c.s.unknownOutcomes.known.get(key)
	if known {
		// It is spent later, so it must be in the store.
		err := c.s.config.Store.Put(c.r.Context(), c.now, stored)
		if err != nil && !errors.Is(err, storage.ErrExists) {
			return nil, fmt.Errorf("store the note about an unknown outcome: %w", err)
		}
	}
	stored, err := c.s.config.Store.Get(c.r.Context(), c.now, key)
	if errors.Is(err, storage.ErrNotFound) || err == nil && !stored.Spent.IsZero() {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up an unknown outcome: %w", err)
	}
	var note unknownOutcome
	if err := json.Unmarshal(stored.Data, &note); err != nil {
		return nil, fmt.Errorf("read the note about an unknown outcome: %w", err)
	}
	if note.Spent != ticket.Spent.UnixMilli() {
		return nil, nil // another attempt spent the ticket, and got a response
	}
	if len(note.Put) == 0 {
		return &note, nil
	}
	_, err = c.s.config.Store.Get(c.r.Context(), c.now, note.Put[0])
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up an unknown outcome: %w", err)
	}
	return &note, nil
}

// replaceUnanswered has an exchange take the place of the one that was not answered: it spends the note,
// once, and what the other one stored is removed. Nobody has it.
func (c *call) replaceUnanswered(ent *entitlement, spent storage.Key, note *unknownOutcome) error {
	if err := c.s.config.Store.Delete(c.r.Context(), note.Put...); err != nil {
		return fmt.Errorf("remove what was not handed out: %w", err)
	}
	ent.spend, ent.retried = []storage.Key{{Kind: ticketkind.UnknownOutcome, ID: spent.ID}}, true
	return nil
}

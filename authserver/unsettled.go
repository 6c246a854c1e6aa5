package authserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/valetkey/valetkey/storage"
)

// kindUnsettled is the kind of a note about a ticket of the same ID. The store failed while
// it was spent, so that the client was told to try again, and it may be spent all the same
// (docs/decisions/0009).
const kindUnsettled storage.Kind = "unsettled"

const (
	// unsettledLifetime is how long the client may try again.
	unsettledLifetime = 10 * time.Minute
	// unsettledRetry is how often a node tries to store a note that other nodes can see, and
	// unsettledPatience how long one try takes.
	unsettledRetry    = 250 * time.Millisecond
	unsettledPatience = 3 * time.Second
	maxUnsettled      = 1000
)

// unsettledNote says which attempt at spending a ticket was not answered.
type unsettledNote struct {
	Spent int64         `json:"s"` // when, in Unix milliseconds
	Put   []storage.Key `json:"p"` // what is stored if it took effect
}

// unsettled keeps notes until they are in the store.
type unsettled struct {
	known recent[storage.Key, storage.Ticket]
	queue chan storage.Ticket
	stop  context.CancelFunc
	work  sync.WaitGroup
}

func (s *Server) startUnsettled() {
	ctx, cancel := context.WithCancel(context.Background())
	s.unsettled.queue, s.unsettled.stop = make(chan storage.Ticket, maxUnsettled), cancel
	s.unsettled.work.Go(func() {
		for {
			select {
			case note := <-s.unsettled.queue:
				s.storeNote(ctx, note)
			case <-ctx.Done():
				return
			}
		}
	})
}

// storeNote tries until the store is back.
func (s *Server) storeNote(ctx context.Context, note storage.Ticket) {
	for time.Now().Before(note.Expires) {
		try, cancel := context.WithTimeout(ctx, unsettledPatience)
		err := s.config.Store.Put(try, time.Now(), note)
		cancel()
		if err == nil || errors.Is(err, storage.ErrExists) {
			return
		}
		select {
		case <-ctx.Done():
			s.log.WarnContext(ctx, "a request whose outcome is not known may be taken for a replay if it is sent again", "error", err)
			return
		case <-time.After(unsettledRetry):
		}
	}
}

// noteUnsettled remembers that nobody knows whether an exchange took effect.
func (c *call) noteUnsettled(x *exchange, put []storage.Ticket) {
	spent := x.spend[0]
	if spent.Kind == kindUnsettled {
		return // it is noted, and the note may be spent
	}
	note := unsettledNote{Spent: c.now.UnixMilli()}
	for _, ticket := range put {
		if ticket.Kind != kindAuthorization {
			note.Put = append(note.Put, ticket.Key)
		}
	}
	data, err := json.Marshal(note)
	if err != nil { // numbers and bytes always encode
		return
	}
	ticket := storage.Ticket{
		Key: storage.Key{Kind: kindUnsettled, ID: spent.ID}, Grant: x.authorization.Grant, Family: x.authorization.Family,
		Data: data, Expires: c.now.Add(unsettledLifetime),
	}
	c.s.unsettled.known.put(ticket.Key, ticket)
	select {
	case c.s.unsettled.queue <- ticket:
	default: // this node knows it at least
	}
}

// unanswered returns the note about a spent ticket, if it was spent by an attempt that the
// store failed in: the client was told to try again, and has got nothing.
func (c *call) unanswered(ticket storage.Ticket) (*unsettledNote, error) {
	key := storage.Key{Kind: kindUnsettled, ID: ticket.ID}
	stored, known := c.s.unsettled.known.get(key)
	if known {
		// It is spent below, so it must be there.
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
	var note unsettledNote
	if err := json.Unmarshal(stored.Data, &note); err != nil {
		return nil, fmt.Errorf("read the note about an unknown outcome: %w", err)
	}
	if note.Spent != ticket.Spent.UnixMilli() {
		return nil, nil // another attempt spent it, and was answered
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

// again has an exchange take the place of the one that was not answered: it spends the note,
// once, and what the other one stored is removed. Nobody has it.
func (c *call) again(x *exchange, spent storage.Key, note *unsettledNote) error {
	if err := c.s.config.Store.Delete(c.r.Context(), note.Put...); err != nil {
		return fmt.Errorf("remove what was not handed out: %w", err)
	}
	x.spend, x.again = []storage.Key{{Kind: kindUnsettled, ID: spent.ID}}, true
	return nil
}

package authserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
)

// kindParticipant notes that a client takes part in a sign-in session: it was given an ID
// token, or a code for one, and must be told when the session ends (OpenID Connect
// Back-Channel Logout, section 2.3). The data is the client_id.
const kindParticipant storage.Kind = "participant"

const (
	// maxParticipants is how many clients of a session are told of its end.
	maxParticipants = 100
	// participantOutlives is how much longer than its session a note is kept, for those
	// who ask after it has ended; also where the session goes on under another name.
	participantOutlives = 24 * time.Hour
)

func participantKey(session, clientID string) storage.Key {
	return kindParticipant.Hash(session + " " + clientID)
}

func participantFamily(session string) string { return "sid:" + session }

// participation returns the ticket that is to be stored beside the answer to a client that
// is seen in a session for the first time, as far as this node remembers.
func (c *call) participation(who *Authentication, scope oauth.Scope) (ticket storage.Ticket, first bool) {
	if who.Session == "" || !scope.Has(oauth.ScopeOpenID) {
		return ticket, false
	}
	key := participantKey(who.Session, c.client.ID)
	if _, known := c.s.participating.get(key); known {
		return ticket, false
	}
	ends := who.SessionExpires
	if ends.IsZero() {
		ends = c.now
	}
	return storage.Ticket{
		Key: key, Family: participantFamily(who.Session), Data: []byte(c.client.ID), Expires: ends.Add(participantOutlives),
	}, true
}

// participant is a client and the name by which it knows the session.
type participant struct {
	client  *client
	session string
}

// participants returns who takes part in a session of some names, by the names of the
// clients. Those that are gone or disabled are left out.
func (s *Server) participants(ctx context.Context, now time.Time, names []string) ([]participant, error) {
	var found []participant
	for _, name := range names {
		tickets, err := s.config.Store.FindFamily(ctx, now, participantFamily(name), kindParticipant, maxParticipants)
		if err != nil {
			return nil, fmt.Errorf("list who takes part in a session: %w", err)
		}
		for _, ticket := range tickets {
			cl, err := s.client(ctx, string(ticket.Data))
			if errors.Is(err, errUnknownClient) || errors.Is(err, errClientDocument) {
				continue // it cannot be told, and shall keep nobody from signing out
			}
			if err != nil {
				return nil, err
			}
			found = append(found, participant{cl, name})
		}
	}
	slices.SortStableFunc(found, func(a, b participant) int {
		return cmp.Or(cmp.Compare(strings.ToLower(a.client.name()), strings.ToLower(b.client.name())), cmp.Compare(a.client.ID, b.client.ID))
	})
	return found, nil
}

// sessionNames are the present name of a session and its earlier ones.
func (a *Authentication) sessionNames() []string {
	if a.Session == "" {
		return nil
	}
	return append([]string{a.Session}, a.FormerSessions...)
}

// SessionClients returns the clients that take part in somebody's sign-in session, by
// their names.
func (s *Server) SessionClients(ctx context.Context, who Authentication) ([]*Client, error) {
	found, err := s.participants(ctx, time.Now(), who.sessionNames())
	if err != nil {
		return nil, err
	}
	var clients []*Client
	for _, p := range found {
		if !slices.Contains(clients, p.client.Client) {
			clients = append(clients, p.client.Client)
		}
	}
	return clients, nil
}

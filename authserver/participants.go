package authserver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

const (
	// maxParticipants is how many clients of a session are told of its end.
	maxParticipants = 100
	// participantOutlives is how much longer than its session a note is kept, for those
	// who ask after it has ended; also where the session goes on under another name.
	participantOutlives = 24 * time.Hour
)

func participantKey(session, clientID string) storage.Key {
	return ticketkind.Participant.Hash(session + " " + clientID)
}

// participantNote is what a logout needs of a client with a metadata document. It is stored,
// so that a logout fetches no document: some may be gone, and some may never have been meant
// to be found.
type participantNote struct {
	ClientID              string `json:"client_id"`
	ClientName            string `json:"client_name,omitempty"`
	BackchannelLogoutURI  string `json:"backchannel_logout_uri,omitempty"`
	FrontchannelLogoutURI string `json:"frontchannel_logout_uri,omitempty"`
	SubjectType           string `json:"subject_type,omitempty"`
	Sector                string `json:"sector,omitempty"`
}

func (c *client) participantData() ([]byte, error) {
	if !oauth.IsClientIDURL(c.ID) {
		return []byte(c.ID), nil
	}
	return json.Marshal(participantNote{c.ID, c.ClientName, c.BackchannelLogoutURI, c.FrontchannelLogoutURI, c.SubjectType, c.sector})
}

func participantFamily(session string) string { return "sid:" + session }

// participation returns the ticket that is to be stored beside the answer to a client that
// is seen in a session for the first time, as far as this node remembers.
func (c *call) participation(who *Authentication, scope oauth.Scope) (ticket storage.Ticket, first bool, err error) {
	if who.Session == "" || !scope.Has(oauth.ScopeOpenID) {
		return ticket, false, nil
	}
	key := participantKey(who.Session, c.client.ID)
	if _, known := c.s.participating.get(key); known {
		return ticket, false, nil
	}
	if c.client.Registration != nil {
		others, err := c.s.config.Store.FindFamily(c.r.Context(), c.now, participantFamily(who.Session), ticketkind.Participant, maxParticipants)
		if err != nil {
			return ticket, false, fmt.Errorf("count who takes part in a session: %w", err)
		}
		if len(others) >= maxParticipants {
			return ticket, false, nil // outsiders cannot make a session grow without end
		}
	}
	data, err := c.client.participantData()
	if err != nil {
		return ticket, false, fmt.Errorf("encode who takes part in a session: %w", err)
	}
	ends := who.SessionExpires
	if ends.IsZero() {
		ends = c.now
	}
	return storage.Ticket{
		Key: key, Family: participantFamily(who.Session), Data: data, Expires: ends.Add(participantOutlives),
	}, true, nil
}

// participant is a client and the name by which it knows the session.
type participant struct {
	client  *client
	session string
	// unread says that of the client only its ID is at hand.
	unread bool
}

// participants returns who takes part in a session of some names, by the names of the
// clients. Those that are gone or disabled are left out.
func (s *Server) participants(ctx context.Context, now time.Time, names []string) ([]participant, error) {
	var found []participant
	for _, name := range names {
		tickets, err := s.config.Store.FindFamily(ctx, now, participantFamily(name), ticketkind.Participant, maxParticipants)
		if err != nil {
			return nil, fmt.Errorf("list who takes part in a session: %w", err)
		}
		for _, ticket := range tickets {
			p, err := s.participant(ctx, now, ticket.Data)
			if errors.Is(err, errUnknownClient) {
				continue // it cannot be told
			}
			if err != nil {
				return nil, err
			}
			p.session = name
			found = append(found, p)
		}
	}
	slices.SortStableFunc(found, func(a, b participant) int {
		return cmp.Or(cmp.Compare(strings.ToLower(a.client.name()), strings.ToLower(b.client.name())), cmp.Compare(a.client.ID, b.client.ID))
	})
	return found, nil
}

// participant returns the client of a note. It fetches nothing: errors are errUnknownClient,
// and those of the store.
func (s *Server) participant(ctx context.Context, now time.Time, data []byte) (participant, error) {
	note := participantNote{ClientID: string(data)}
	noted := len(data) > 0 && data[0] == '{'
	if noted {
		if err := json.Unmarshal(data, &note); err != nil {
			return participant{}, fmt.Errorf("read who takes part in a session: %w", err)
		}
	}
	if !oauth.IsClientIDURL(note.ClientID) {
		cl, err := s.client(ctx, note.ClientID)
		return participant{client: cl}, err
	}
	if !s.config.MetadataDocuments.allows(note.ClientID) {
		return participant{}, errUnknownClient
	}
	if cl := s.documents.last(note.ClientID, now); cl != nil {
		return participant{client: cl}, nil
	}
	cl := s.newClient(&record.Client{ID: note.ClientID, Registration: &record.Registration{}, ClientMetadata: oauth.ClientMetadata{
		ClientName: note.ClientName, BackchannelLogoutURI: note.BackchannelLogoutURI, FrontchannelLogoutURI: note.FrontchannelLogoutURI,
		SubjectType: note.SubjectType,
	}})
	cl.sector = note.Sector
	return participant{client: cl, unread: !noted}, nil
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
func (s *Server) SessionClients(ctx context.Context, who Authentication) ([]*record.Client, error) {
	found, err := s.participants(ctx, time.Now(), who.sessionNames())
	if err != nil {
		return nil, err
	}
	var clients []*record.Client
	for _, p := range found {
		if !slices.Contains(clients, p.client.Client) {
			clients = append(clients, p.client.Client)
		}
	}
	return clients, nil
}

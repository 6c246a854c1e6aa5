package authserver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/outgoing"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// Back-channel logout. A session that ends is noted by whoever keeps sessions
// (Users.EndedSessions); DeliverLogouts makes of each note a message to every client that
// takes part, and delivers those from the store's outbox, so that a restart loses none.

const (
	// logoutTokenLifetime is short, so that a token that was caught on its way is soon
	// worth nothing (OpenID Connect Back-Channel Logout, section 4).
	logoutTokenLifetime = 2 * time.Minute
	// logoutClaim is how long a node has for one delivery; a client answers within
	// fetchTimeout or has failed.
	logoutClaim = 20 * time.Second
	// After a failure the next try waits, longer each time; after a day nobody tries.
	logoutFirstPause   = 10 * time.Second
	logoutLongestPause = time.Hour
	logoutGivenUp      = 24 * time.Hour
	// logoutsAtOnce bounds how many requests of a node are under way, and logoutsPerOwner how
	// many of all nodes for one owner.
	logoutsAtOnce   = 32
	logoutsPerOwner = 4
	endedAtOnce     = 100
	// logoutLook is how often others' messages are looked for while some are slow.
	logoutLook = time.Second
)

// logoutMessage is what waits in the outbox. The token is made when it is sent.
type logoutMessage struct {
	ClientID string `json:"c"`
	Subject  string `json:"s"`
	Session  string `json:"i"`
}

// logoutTokenClaims are those of OpenID Connect Back-Channel Logout, section 2.4.
type logoutTokenClaims struct {
	Issuer   string              `json:"iss"`
	Subject  string              `json:"sub"`
	Audience string              `json:"aud"`
	IssuedAt int64               `json:"iat"`
	Expires  int64               `json:"exp"`
	ID       string              `json:"jti"`
	Events   map[string]struct{} `json:"events"`
	Session  string              `json:"sid"`
}

// SessionsEnded has DeliverLogouts called soon, through LogoutsDue. Call it after a session
// was ended elsewhere than in the engine. It never waits.
func (s *Server) SessionsEnded() {
	select {
	case s.logoutsDue <- struct{}{}:
	default: // it is known already
	}
}

// LogoutsDue is ready when it is time for DeliverLogouts. What another node has left, and
// what is to be tried again, shows only to whoever calls it every few seconds too.
func (s *Server) LogoutsDue() <-chan struct{} { return s.logoutsDue }

// DeliverLogouts tells the clients that take part in sessions that have ended, and returns
// when nothing is due and each that was due was told or failed. Owners of messages take
// turns, and none has more than logoutsPerOwner requests under way, so a host that hangs
// delays only messages for itself. Any number of nodes may call it at the same time; one of
// them sends each message.
func (s *Server) DeliverLogouts(ctx context.Context) error {
	var sending sync.WaitGroup
	defer sending.Wait()
	// A delivery that ends makes room for the next one.
	done := make(chan struct{}, logoutsAtOnce)
	for underWay := 0; ; {
		if err := s.enqueueEnded(ctx); err != nil {
			return err
		}
		now := time.Now()
		messages, err := s.config.Store.Claim(ctx, now, now.Add(logoutClaim), logoutsAtOnce-underWay, logoutsPerOwner)
		if err != nil {
			return fmt.Errorf("claim logouts: %w", err)
		}
		for _, m := range messages {
			underWay++
			sending.Go(func() {
				defer func() { done <- struct{}{} }()
				s.deliverLogout(ctx, m)
			})
		}
		if underWay == 0 {
			return nil
		}
		select {
		case <-done:
			underWay--
		case <-s.logoutsDue: // while others are slow, sessions go on to end
		case <-time.After(logoutLook):
		case <-ctx.Done():
			return nil // what was claimed is due again when the claim ends
		}
		for len(done) > 0 {
			<-done
			underWay--
		}
	}
}

// enqueueEnded makes messages of all sessions that have ended.
func (s *Server) enqueueEnded(ctx context.Context) error {
	for {
		ended, err := s.config.Users.EndedSessions(ctx, endedAtOnce)
		if err != nil {
			return fmt.Errorf("list ended sessions: %w", err)
		}
		if err := s.enqueueLogouts(ctx, time.Now(), ended); err != nil {
			return err
		}
		if len(ended) < endedAtOnce {
			return nil
		}
	}
}

// enqueueLogouts makes messages of ended sessions and then forgets those. If it dies in
// between, the messages are enqueued again under the same IDs.
func (s *Server) enqueueLogouts(ctx context.Context, now time.Time, ended []EndedSession) error {
	if len(ended) == 0 {
		return nil
	}
	for _, session := range ended {
		told, err := s.participants(ctx, now, session.Names)
		if err != nil {
			return err
		}
		var messages []storage.Message
		for _, p := range told {
			// Whether a client whose document is not at hand wants to be told is found out when
			// it is told: nothing is fetched here.
			if p.client.BackchannelLogoutURI == "" && !p.unread {
				continue
			}
			data, err := json.Marshal(logoutMessage{p.client.ID, session.Subject, p.session})
			if err != nil {
				return fmt.Errorf("encode logout: %w", err)
			}
			messages = append(messages, storage.Message{ID: "logout " + p.session + " " + p.client.ID, Owner: logoutOwner(p.client.Client), Data: data, Created: now, Due: now})
		}
		if len(messages) == 0 {
			continue
		}
		if err := s.config.Store.Enqueue(ctx, messages...); err != nil {
			return fmt.Errorf("enqueue logouts: %w", err)
		}
	}
	if err := s.config.Users.ForgetEnded(ctx, ended); err != nil {
		return fmt.Errorf("forget ended sessions: %w", err)
	}
	return nil
}

// logoutOwner is whose turn it is when a message is sent. Outsiders can name any number of
// hosts in a domain of theirs, so those share one turn.
func logoutOwner(cl *record.Client) string {
	if cl.Registration == nil {
		return outgoing.Host(cl.BackchannelLogoutURI)
	}
	return "outsider " + outgoing.Site(cmp.Or(cl.BackchannelLogoutURI, cl.ID))
}

// deliverLogout sends one message and says what becomes of it.
func (s *Server) deliverLogout(ctx context.Context, m storage.Message) {
	defer func() {
		if failure := recover(); failure != nil {
			s.log.ErrorContext(ctx, "panic", "in", "deliver a logout", "panic", failure, "stack", string(debug.Stack()))
		}
	}()
	if s.events.RecordQueued(ctx, m) {
		if err := s.config.Store.Remove(ctx, m.ID); err != nil {
			s.log.ErrorContext(ctx, "remove an event from the outbox", "error", err)
		}
		return
	}
	var logout logoutMessage
	err := json.Unmarshal(m.Data, &logout)
	now := time.Now()
	if err == nil {
		_, err = s.config.Store.Get(ctx, now, participantKey(logout.Session, logout.ClientID))
	}
	switch {
	case errors.Is(err, storage.ErrNotFound):
		// It was told already, and a node that had listed the ended session before that has
		// enqueued it again.
		err = nil
	case err == nil:
		err = s.sendLogout(ctx, &logout)
	}
	now = time.Now()
	switch {
	case ctx.Err() != nil:
		return // it is due again when the claim ends
	case err == nil:
		err = errors.Join(s.config.Store.Delete(ctx, participantKey(logout.Session, logout.ClientID)), s.config.Store.Remove(ctx, m.ID))
	case now.Sub(m.Created) >= logoutGivenUp:
		s.events.Record(ctx, event.LogoutGivenUp, s.namedClientID(logout.ClientID), slog.Int("attempts", m.Attempts), slog.Any("cause", err))
		err = s.config.Store.Remove(ctx, m.ID)
	default:
		s.events.Record(ctx, event.LogoutPostponed, s.namedClientID(logout.ClientID), slog.Int("attempts", m.Attempts), slog.Any("cause", err))
		err = s.config.Store.Postpone(ctx, m.ID, now.Add(logoutPause(m.Attempts)))
	}
	if err != nil {
		s.log.ErrorContext(ctx, "deliver a logout", "error", err)
	}
}

func logoutPause(attempts int) time.Duration {
	pause := logoutFirstPause
	for ; attempts > 1 && pause < logoutLongestPause; attempts-- {
		pause *= 3
	}
	return min(pause, logoutLongestPause)
}

// sendLogout posts a logout token (OpenID Connect Back-Channel Logout, section 2.5). A
// client that is gone, or wants none any more, has been told.
func (s *Server) sendLogout(ctx context.Context, logout *logoutMessage) error {
	cl, err := s.client(ctx, logout.ClientID)
	if errors.Is(err, errUnknownClient) || err == nil && cl.BackchannelLogoutURI == "" {
		return nil
	}
	if err != nil {
		return err
	}
	token, err := s.logoutToken(ctx, cl, logout)
	if err != nil {
		return err
	}
	status, err := s.outgoingFor(cl.Client).PostForm(ctx, cl.BackchannelLogoutURI, url.Values{"logout_token": {token}})
	if err != nil {
		return err
	}
	// Section 2.8 asks for 200 and knows that frameworks answer 204.
	if status != http.StatusOK && status != http.StatusNoContent {
		return fmt.Errorf("the client responded %d", status)
	}
	s.events.Record(ctx, event.LogoutDelivered, namedClient(cl))
	return nil
}

func (s *Server) logoutToken(ctx context.Context, cl *client, logout *logoutMessage) (string, error) {
	now := time.Now()
	payload, err := json.Marshal(logoutTokenClaims{
		Issuer: s.config.Issuer, Subject: s.subjectFor(cl, logout.Subject), Audience: cl.ID,
		IssuedAt: now.Unix(), Expires: now.Add(logoutTokenLifetime).Unix(), ID: storage.NewID(),
		Events: map[string]struct{}{oauth.EventBackchannelLogout: {}}, Session: s.sessionFor(cl, logout.Session),
	})
	if err != nil {
		return "", fmt.Errorf("encode logout token: %w", err)
	}
	// Signed and encrypted as the client's ID tokens are (section 2.4).
	catalogue, err := s.catalogue(ctx)
	if err != nil {
		return "", err
	}
	token, err := s.sign(ctx, catalogue, now, cl, jose.Algorithm(cl.IDTokenSignedResponseAlg), oauth.TypLogoutToken, payload)
	if err != nil {
		return "", fmt.Errorf("sign logout token: %w", err)
	}
	return s.encryptTo(ctx, now, cl, token, cl.IDTokenEncryptedResponseAlg, cl.IDTokenEncryptedResponseEnc, "JWT")
}

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

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

// Back-channel logout: Users records the sessions that have ended (Users.EndedSessions).
// DeliverLogouts enqueues a message to every client of such a session in the store's outbox, and
// delivers the messages from there, so that a restart loses none.

const (
	// logoutTokenLifetime is short, so that an intercepted token soon becomes useless (OpenID
	// Connect Back-Channel Logout, section 4).
	logoutTokenLifetime = 2 * time.Minute
	// logoutClaim is how long a node has for one delivery. It is longer than the timeout of the
	// request.
	logoutClaim = 20 * time.Second
	// Failed deliveries are retried after a delay that grows with each attempt, for a day.
	minLogoutDelay    = 10 * time.Second
	maxLogoutDelay    = time.Hour
	logoutGiveUpAfter = 24 * time.Hour
	// maxLogoutRequests bounds the concurrent requests of a node, and maxLogoutRequestsPerOwner
	// those of all nodes for one owner.
	maxLogoutRequests         = 32
	maxLogoutRequestsPerOwner = 4
	endedSessionsBatch        = 100
	// logoutPollInterval is how often due messages are claimed while other requests are running.
	logoutPollInterval = time.Second
)

// logoutMessage is the data of a message in the outbox. The token is signed when it is sent.
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

// SessionsEnded makes LogoutsDue ready. Call it after a session was ended outside of the engine. It
// does not block.
func (s *Server) SessionsEnded() {
	select {
	case s.logoutsDue <- struct{}{}:
	default: // it is ready already
	}
}

// LogoutsDue is ready when DeliverLogouts should be called. Call DeliverLogouts every few seconds as
// well, for messages that another node has left and for those that are due for another attempt.
func (s *Server) LogoutsDue() <-chan struct{} { return s.logoutsDue }

// DeliverLogouts notifies the clients of sessions that have ended, and sends the other messages of the
// outbox: those about backchannel authentication requests. It returns when no message is
// due, and every message that was due is delivered or postponed. The owners of messages take turns,
// and none has more than maxLogoutRequestsPerOwner requests at a time, so that a host that hangs
// delays only its own messages. Any number of nodes may call it at the same time; each message is
// sent by one of them.
func (s *Server) DeliverLogouts(ctx context.Context) error {
	var sending sync.WaitGroup
	defer sending.Wait()
	done := make(chan struct{}, maxLogoutRequests)
	for running := 0; ; {
		if err := s.enqueueEnded(ctx); err != nil {
			return err
		}
		messages, err := s.claimMessages(ctx, maxLogoutRequests-running)
		if err != nil {
			return fmt.Errorf("claim logouts: %w", err)
		}
		for _, m := range messages {
			running++
			sending.Go(func() {
				defer func() { done <- struct{}{} }()
				s.deliver(ctx, m)
			})
		}
		if running == 0 {
			return nil
		}
		select {
		case <-done:
			running--
		case <-s.logoutsDue: // a session has ended meanwhile
		case <-time.After(logoutPollInterval):
		case <-ctx.Done():
			return nil // deliver makes the claimed messages due again
		}
		for len(done) > 0 {
			<-done
			running--
		}
	}
}

// claimMessages claims at most limit messages of any kind. The end of ctx does not interrupt it: a
// message that was claimed by an interrupted call would wait until the claim ends.
func (s *Server) claimMessages(ctx context.Context, limit int) ([]storage.Message, error) {
	ctx, cancel := storage.Uninterrupted(ctx)
	defer cancel()
	now := time.Now()
	return s.config.Store.Claim(ctx, now, now.Add(logoutClaim), limit, maxLogoutRequestsPerOwner)
}

// enqueueEnded enqueues the messages of all sessions that have ended.
func (s *Server) enqueueEnded(ctx context.Context) error {
	for {
		ended, err := s.config.Users.EndedSessions(ctx, endedSessionsBatch)
		if err != nil {
			return fmt.Errorf("list ended sessions: %w", err)
		}
		if err := s.enqueueLogouts(ctx, time.Now(), ended); err != nil {
			return err
		}
		if len(ended) < endedSessionsBatch {
			return nil
		}
	}
}

// enqueueLogouts enqueues the messages of ended sessions, and then forgets the sessions. If the
// process dies in between, the messages are enqueued again under the same IDs.
func (s *Server) enqueueLogouts(ctx context.Context, now time.Time, ended []EndedSession) error {
	if len(ended) == 0 {
		return nil
	}
	for _, session := range ended {
		found, err := s.participants(ctx, now, session.Names)
		if err != nil {
			return err
		}
		var messages []storage.Message
		for _, p := range found {
			// No metadata document is fetched here. If that of a client is not in memory, the
			// delivery finds out whether the client uses back-channel logout.
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

// logoutOwner returns the owner of the messages to a client. Outsiders can use any number of hosts in
// a domain, so all hosts of a domain share one owner.
func logoutOwner(cl *record.Client) string {
	if cl.Registration == nil {
		return outgoing.Host(cl.BackchannelLogoutURI)
	}
	return "outsider " + outgoing.Site(cmp.Or(cl.BackchannelLogoutURI, cl.ID))
}

// deliver delivers a message of any kind.
func (s *Server) deliver(ctx context.Context, m storage.Message) {
	defer func() {
		if failure := recover(); failure != nil {
			s.log.ErrorContext(ctx, "panic", "in", "deliver a message", "panic", failure, "stack", string(debug.Stack()))
		}
	}()
	switch {
	case s.events.RecordQueued(ctx, m):
		ctx, cancel := storage.Uninterrupted(ctx)
		defer cancel()
		if err := s.config.Store.Remove(ctx, m.ID); err != nil {
			s.log.ErrorContext(ctx, "event not removed from the outbox", "error", err)
		}
	case strings.HasPrefix(m.ID, messageNotification):
		s.deliverNotification(ctx, m)
	case strings.HasPrefix(m.ID, messageApproval):
		s.deliverApproval(ctx, m)
	default:
		s.deliverLogout(ctx, m)
	}
}

// deliverLogout sends one message, and then removes or postpones it.
func (s *Server) deliverLogout(ctx context.Context, m storage.Message) {
	var logout logoutMessage
	err := json.Unmarshal(m.Data, &logout)
	now := time.Now()
	if err == nil && m.Attempts <= 1 {
		_, err = s.config.Store.Get(ctx, now, participantKey(logout.Session, logout.ClientID))
	}
	switch {
	case errors.Is(err, storage.ErrNotFound):
		// The client was notified already, and a node that had listed the ended session before
		// has enqueued the message again. After a failure that is not so: an operator may have
		// put the message back when the note of the client had expired.
		err = nil
	case err == nil:
		err = s.sendLogout(ctx, &logout)
	}
	interrupted := ctx.Err() != nil
	ctx, cancel := storage.Uninterrupted(ctx)
	defer cancel()
	now = time.Now()
	switch {
	case err == nil:
		err = errors.Join(s.config.Store.Delete(ctx, participantKey(logout.Session, logout.ClientID)), s.config.Store.Remove(ctx, m.ID))
	case interrupted: // another node, or this one after a restart, can send it at once
		err = s.config.Store.Postpone(ctx, m.ID, now)
	case now.Sub(m.Created) >= logoutGiveUpAfter:
		s.events.Record(ctx, event.LogoutGivenUp, s.namedClientID(logout.ClientID), slog.Int("attempts", m.Attempts), slog.Any("cause", err))
		err = s.config.Store.Fail(ctx, m.ID, now, err.Error())
	default:
		s.events.Record(ctx, event.LogoutPostponed, s.namedClientID(logout.ClientID), slog.Int("attempts", m.Attempts), slog.Any("cause", err))
		err = s.config.Store.Postpone(ctx, m.ID, now.Add(logoutDelay(m.Attempts)))
	}
	if err != nil {
		s.log.ErrorContext(ctx, "logout not delivered", "error", err)
	}
}

func logoutDelay(attempts int) time.Duration {
	delay := minLogoutDelay
	for ; attempts > 1 && delay < maxLogoutDelay; attempts-- {
		delay *= 3
	}
	return min(delay, maxLogoutDelay)
}

// sendLogout posts a logout token (OpenID Connect Back-Channel Logout, section 2.5). If the client
// does not exist any more, or does not use back-channel logout any more, there is nothing to send.
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
	// Section 2.8 requires 200 and mentions that some frameworks respond with 204.
	if status != http.StatusOK && status != http.StatusNoContent {
		return fmt.Errorf("the client responded with status %d", status)
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
	// Signed and encrypted like the client's ID tokens (section 2.4).
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
	// maxParticipants is the maximum number of clients of a session that are notified of its end.
	maxParticipants = 100
	// participantOutlives is how much longer than its session a participant is stored, for
	// logouts that are delivered after it has ended, and for a session that got a new name.
	participantOutlives = 24 * time.Hour
)

func participantKey(session, clientID string) storage.Key {
	return ticketkind.Participant.Hash(session + " " + clientID)
}

// participantNote is the metadata that a logout needs of a client with a metadata document. It is
// stored, so that a logout fetches no documents: some may not exist any more, or may exist only to
// be fetched by this server.
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

// participation returns the ticket to store with the first response to a client in a session. first
// reports whether it is the first one, as far as this node knows.
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
			return ticket, false, fmt.Errorf("count the clients of a session: %w", err)
		}
		if len(others) >= maxParticipants {
			return ticket, false, nil // outsiders cannot make a session grow without limit
		}
	}
	data, err := c.client.participantData()
	if err != nil {
		return ticket, false, fmt.Errorf("encode a client of a session: %w", err)
	}
	ends := who.SessionExpires
	if ends.IsZero() {
		ends = c.now
	}
	return storage.Ticket{
		Key: key, Family: participantFamily(who.Session), Data: data, Expires: ends.Add(participantOutlives),
	}, true, nil
}

// participant is a client of a session, and the name of the session when the client got it.
type participant struct {
	client  *client
	session string
	// unread is set if only the ID of the client is known, and not its metadata.
	unread bool
}

// participants returns the clients of a session with these names, sorted by client name, without
// those that are deleted or disabled.
func (s *Server) participants(ctx context.Context, now time.Time, names []string) ([]participant, error) {
	var found []participant
	for _, name := range names {
		tickets, err := s.config.Store.FindFamily(ctx, now, participantFamily(name), ticketkind.Participant, maxParticipants)
		if err != nil {
			return nil, fmt.Errorf("list the clients of a session: %w", err)
		}
		for _, ticket := range tickets {
			p, err := s.participant(ctx, now, ticket.Data)
			if errors.Is(err, errUnknownClient) {
				continue // it cannot be notified
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

// participant returns the client of a stored participant. It fetches nothing. The error is
// errUnknownClient or one of the store.
func (s *Server) participant(ctx context.Context, now time.Time, data []byte) (participant, error) {
	note := participantNote{ClientID: string(data)}
	noted := len(data) > 0 && data[0] == '{'
	if noted {
		if err := json.Unmarshal(data, &note); err != nil {
			return participant{}, fmt.Errorf("read a client of a session: %w", err)
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

// sessionNames returns the current name of a session, followed by its earlier ones.
func (a *Authentication) sessionNames() []string {
	if a.Session == "" {
		return nil
	}
	return append([]string{a.Session}, a.FormerSessions...)
}

// SessionClients returns the clients of a sign-in session, sorted by name.
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

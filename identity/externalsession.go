package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/storage"
)

// A sign-in through a provider leaves a ticket about the session there. Its reference is the
// Authenticator of the proof (ProvedMethod), and so part of the session here: that is how sessions are
// found when the provider ends its own. The reference begins with the ID of the provider.

// externalSession is the Data of a ticket.
type externalSession struct {
	Reference string    `json:"reference"`
	UserID    string    `json:"user"`
	Provider  string    `json:"provider"`
	Issuer    string    `json:"issuer"`
	Subject   string    `json:"subject"`
	ID        string    `json:"sid,omitempty"`
	Expires   time.Time `json:"expires,omitzero"`
	// IDToken is sealed. Only the ticket of the reference has it.
	IDToken []byte `json:"id_token,omitempty"`
}

// externalFamily is the ticket family of the sessions of an external user, or of one session.
func externalFamily(parts ...string) string {
	b, err := json.Marshal(parts)
	if err != nil { // strings always encode
		return ""
	}
	key := ticketkind.ExternalSession.Hash(string(b))
	return "external:" + sid(key)
}

// HoldExternalSession stores a session at a provider, and returns the reference for the proof.
func (a *Accounts) HoldExternalSession(ctx context.Context, now time.Time, userID string, e *ExternalUser) (reference string, err error) {
	reference = e.Provider + "." + storage.NewID()
	session := externalSession{
		Reference: reference, UserID: userID, Provider: e.Provider, Issuer: e.Issuer, Subject: e.Subject, ID: e.Session.ID, Expires: e.Session.Expires,
	}
	bySession, err := json.Marshal(session)
	if err != nil {
		return "", fmt.Errorf("encode a session at a provider: %w", err)
	}
	if e.Session.IDToken != "" {
		session.IDToken = a.seal([]byte(e.Session.IDToken), "id token", reference)
	}
	data, err := json.Marshal(session)
	if err != nil {
		return "", fmt.Errorf("encode a session at a provider: %w", err)
	}
	// A session here can continue for another lifetime after each sign-in with another method.
	expires := now.Add(2 * a.sessionLifetime)
	tickets := []storage.Ticket{{
		Key: ticketkind.ExternalSession.Hash(reference), Family: externalFamily("subject", e.Issuer, e.Subject), Data: data, Expires: expires,
	}}
	if e.Session.ID != "" {
		tickets = append(tickets, storage.Ticket{
			Key: ticketkind.ExternalSession.Hash("sid " + reference), Family: externalFamily("sid", e.Issuer, e.Session.ID), Data: bySession, Expires: expires,
		})
	}
	if err := a.store.Put(ctx, now, tickets...); err != nil {
		return "", fmt.Errorf("store a session at a provider: %w", err)
	}
	return reference, nil
}

// Provider returns the ID of the provider or directory that has proved who the user is; "" if there is none, or
// if an earlier version has stored the proof.
func (p ProvedMethod) Provider() string {
	provider, _, found := strings.Cut(p.Authenticator, ".")
	if p.Method != MethodUpstream || !found {
		return ""
	}
	return provider
}

// ExternalSessions is what proofs by providers say about a session here.
type ExternalSessions struct {
	// Live are the proofs without those of sessions that their provider has ended since.
	Live []ProvedMethod
	// Sessions are the sessions at providers, by the provider's ID.
	Sessions map[string]ExternalSession
	// Expires is when a session with these proofs must end at the latest; zero if there is no limit.
	Expires time.Time
}

// ExternalSessions returns what the proofs by providers refer to. It reads nothing if there are none.
func (a *Accounts) ExternalSessions(ctx context.Context, now time.Time, proofs []ProvedMethod) (ExternalSessions, error) {
	found := ExternalSessions{Sessions: map[string]ExternalSession{}}
	for _, proof := range proofs {
		if proof.Method != MethodUpstream || proof.Authenticator == "" {
			found.Live = append(found.Live, proof)
			continue
		}
		ticket, err := a.store.Get(ctx, now, ticketkind.ExternalSession.Hash(proof.Authenticator))
		if errors.Is(err, storage.ErrNotFound) || err == nil && !ticket.Spent.IsZero() {
			continue
		}
		if err != nil {
			return found, fmt.Errorf("find a session at a provider: %w", err)
		}
		var stored externalSession
		if err := json.Unmarshal(ticket.Data, &stored); err != nil {
			return found, fmt.Errorf("decode a session at a provider: %w", err)
		}
		if !stored.Expires.IsZero() {
			if !stored.Expires.After(now) {
				continue
			}
			if found.Expires.IsZero() || stored.Expires.Before(found.Expires) {
				found.Expires = stored.Expires
			}
		}
		found.Live = append(found.Live, proof)
		found.Sessions[stored.Provider] = ExternalSession{ID: stored.ID, Expires: stored.Expires}
	}
	return found, nil
}

// ExternalLogout is a session at a provider that can be ended with the session here that began in it.
type ExternalLogout struct {
	// Provider is the ID of the provider.
	Provider string
	// IDToken is that of the sign-in there; "" if it is not known.
	IDToken string
}

// Format keeps the ID token out of logs and messages.
func (l ExternalLogout) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[logout at another provider]") }

// LogValue keeps the ID token out of structured logs.
func (l ExternalLogout) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(l)) }

// AtProviders returns the references of the sessions at providers that were begun in the browser of a session
// here, the latest first: those of its user, and those of users who were signed in before without signing out.
func (s *Session) AtProviders() []string {
	var references []string
	for _, proof := range slices.Backward(s.Proofs) {
		if proof.Method == MethodUpstream && proof.Authenticator != "" {
			references = append(references, proof.Authenticator)
		}
	}
	return append(references, s.left...)
}

// ExternalLogouts returns the sessions at providers that end with a session here: the latest of each
// provider, because a provider has one session in a browser. Those that the provider has ended are left out.
func (a *Accounts) ExternalLogouts(ctx context.Context, now time.Time, s *Session) ([]ExternalLogout, error) {
	var logouts []ExternalLogout
	for _, reference := range s.AtProviders() {
		ticket, err := a.store.Get(ctx, now, ticketkind.ExternalSession.Hash(reference))
		if errors.Is(err, storage.ErrNotFound) || err == nil && !ticket.Spent.IsZero() {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("find a session at a provider: %w", err)
		}
		var stored externalSession
		if err := json.Unmarshal(ticket.Data, &stored); err != nil {
			return nil, fmt.Errorf("decode a session at a provider: %w", err)
		}
		if slices.ContainsFunc(logouts, func(l ExternalLogout) bool { return l.Provider == stored.Provider }) {
			continue
		}
		logout := ExternalLogout{Provider: stored.Provider}
		if len(stored.IDToken) > 0 {
			plain, err := a.unseal(stored.IDToken, "id token", stored.Reference)
			if err != nil { // the provider asks its user, who can still sign out here
				a.logger.ErrorContext(ctx, "ID token of a session at a provider not opened", "provider", stored.Provider, "error", err)
			}
			logout.IDToken = string(plain)
		}
		logouts = append(logouts, logout)
	}
	return logouts, nil
}

// EndExternalSessions ends the sessions that began in sessions at a provider: in those of a subject,
// in one with a session ID, or in one of a subject if both are set. It returns how many ended. It may
// be called again.
func (a *Accounts) EndExternalSessions(ctx context.Context, now time.Time, issuer, subject, session string) (ended int, err error) {
	if issuer == "" || subject == "" && session == "" {
		return 0, errors.New("identity: an issuer, and a subject or a session, are required")
	}
	family := externalFamily("subject", issuer, subject)
	if session != "" {
		family = externalFamily("sid", issuer, session)
	}
	for {
		tickets, err := a.store.FindFamily(ctx, now, family, ticketkind.ExternalSession, maxSessions)
		if err != nil {
			return ended, fmt.Errorf("list sessions at a provider: %w", err)
		}
		if len(tickets) == 0 {
			return ended, nil
		}
		for _, ticket := range tickets {
			var stored externalSession
			if err := json.Unmarshal(ticket.Data, &stored); err != nil {
				return ended, fmt.Errorf("decode a session at a provider: %w", err)
			}
			if subject != "" && stored.Subject != subject {
				return ended, nil // the session ID is that of another subject: the token names no known session
			}
			n, err := a.endSessionsWith(ctx, now, &stored)
			if err != nil {
				return ended, err
			}
			ended += n
		}
	}
}

// endSessionsWith ends the sessions here that began in one at a provider. The order makes sure that
// none remains: first the reference is spent, so that no session starts with it (a request that is
// starting one looks again afterwards); then the sessions end; and only then is the reference
// forgotten, so that a repetition after a crash finds them.
func (a *Accounts) endSessionsWith(ctx context.Context, now time.Time, external *externalSession) (ended int, err error) {
	own := []storage.Key{ticketkind.ExternalSession.Hash(external.Reference), ticketkind.ExternalSession.Hash("sid " + external.Reference)}
	err = a.store.Spend(ctx, now, own[:1])
	if err != nil && !errors.Is(err, storage.ErrSpent) && !errors.Is(err, storage.ErrNotFound) {
		return 0, fmt.Errorf("end a session at a provider: %w", err)
	}
	tickets, err := a.store.FindFamily(ctx, now, SessionFamily(external.UserID), ticketkind.Session, maxSessions)
	if err != nil {
		return 0, fmt.Errorf("list sessions: %w", err)
	}
	for _, ticket := range tickets {
		session, _, err := readSession(ticket)
		if err != nil {
			return ended, err
		}
		if !ticket.Spent.IsZero() || !slices.ContainsFunc(session.Proofs, func(p ProvedMethod) bool {
			return p.Method == MethodUpstream && p.Authenticator == external.Reference
		}) {
			continue
		}
		if err := a.endTicket(ctx, now, ticket); err != nil {
			return ended, fmt.Errorf("end a session: %w", err)
		}
		ended++
	}
	if err := a.store.Delete(ctx, own...); err != nil {
		return ended, fmt.Errorf("forget a session at a provider: %w", err)
	}
	if ended > 0 {
		a.events.Record(ctx, event.ExternalSignedOut, a.namedByID(ctx, external.UserID), slog.String("provider", external.Provider), slog.Int("sessions", ended))
	}
	return ended, nil
}

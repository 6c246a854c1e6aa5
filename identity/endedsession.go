package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/storage"
)

// KindSession is the kind of a session's ticket.
const KindSession = ticketkind.Session

// endedFamily is the ticket family of all such notes.
const endedFamily = "sessions ended"

// endedLifetime is how long a note is kept after the session would have expired.
const endedLifetime = 7 * 24 * time.Hour

// EndedSession is a session that was ended before it expired.
type EndedSession struct {
	UserID string
	// Names are its public names: the last one, and the earlier ones from before the user
	// signed in again.
	Names []string
}

// EndedNote returns the note to store when the session of a ticket is ended. It is nil if there
// is nothing to report: the session continues under another name, or the ticket is malformed.
func EndedNote(ticket storage.Ticket) *storage.Ticket {
	session, userID, err := readSession(ticket)
	if err != nil || !ticket.Spent.IsZero() {
		return nil
	}
	data, err := json.Marshal(EndedSession{userID, append([]string{session.ID}, session.former...)})
	if err != nil { // strings always encode
		return nil
	}
	return &storage.Ticket{Key: ticketkind.EndedSession.Hash(session.ID), Family: endedFamily, Data: data, Expires: ticket.Expires.Add(endedLifetime)}
}

// Keeps reports whether a ticket belongs to a session in u.Kept, by its current or an earlier
// name. Stores call it.
func (u *User) Keeps(ticket storage.Ticket) bool {
	if ticket.Kind != KindSession || len(u.Kept) == 0 {
		return false
	}
	session, _, err := readSession(ticket)
	return err == nil && slices.ContainsFunc(append(session.Former(), session.ID), func(name string) bool { return slices.Contains(u.Kept, name) })
}

// EndedSessions returns at most limit sessions that have ended and were not passed to
// ForgetEnded yet.
func (a *Accounts) EndedSessions(ctx context.Context, now time.Time, limit int) ([]EndedSession, error) {
	notes, err := a.store.FindFamily(ctx, now, endedFamily, ticketkind.EndedSession, limit)
	if err != nil {
		return nil, fmt.Errorf("list ended sessions: %w", err)
	}
	ended := make([]EndedSession, len(notes))
	for i, note := range notes {
		if err := json.Unmarshal(note.Data, &ended[i]); err != nil {
			return nil, fmt.Errorf("decode the end of a session: %w", err)
		}
	}
	return ended, nil
}

// ForgetEnded forgets ended sessions after all clients have been notified.
func (a *Accounts) ForgetEnded(ctx context.Context, ended []EndedSession) error {
	var keys []storage.Key
	for _, session := range ended {
		keys = append(keys, ticketkind.EndedSession.Hash(session.Names[0]))
	}
	if err := a.store.Delete(ctx, keys...); err != nil {
		return fmt.Errorf("forget ended sessions: %w", err)
	}
	return nil
}

// endTicket ends the session of a ticket.
func (a *Accounts) endTicket(ctx context.Context, now time.Time, ticket storage.Ticket) error {
	if note := EndedNote(ticket); note != nil {
		session, userID, err := readSession(ticket)
		if err != nil {
			return err
		}
		err = a.store.Spend(auditSessionEnd(ctx, session, userID), now, []storage.Key{ticket.Key}, *note)
		// It was ended or renamed concurrently.
		if err != nil && !errors.Is(err, storage.ErrSpent) && !errors.Is(err, storage.ErrNotFound) {
			return err
		}
	}
	return a.store.Delete(ctx, ticket.Key)
}

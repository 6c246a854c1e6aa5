package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/storage"
)

// sessionUse returns the name of the storage.Use of a session.
func sessionUse(id string) string { return "session " + id }

// Used notes that a session was used. It does no I/O: the last use of each session is stored every few
// minutes, together with others.
func (a *Accounts) Used(now time.Time, session *Session, remote netip.Addr) {
	a.uses.Record(storage.Use{Owner: session.User.ID, Name: sessionUse(session.ID), At: now, Remote: remote, Expires: session.Expires})
}

// Uses returns the last use of what belongs to a user, by name (SessionUse, record.GrantUse).
func (a *Accounts) Uses(ctx context.Context, now time.Time, userID string) (map[string]storage.Use, error) {
	uses, err := a.store.UsesOf(ctx, now, userID)
	if err != nil {
		return nil, fmt.Errorf("list the last uses: %w", err)
	}
	found := map[string]storage.Use{}
	for _, use := range append(uses, a.uses.Pending(userID)...) {
		if !found[use.Name].At.After(use.At) {
			found[use.Name] = use
		}
	}
	return found, nil
}

// LastUse returns the last use of a session, from the result of Uses; the sign-in if it is not known.
func (s *Session) LastUse(uses map[string]storage.Use) (time.Time, netip.Addr) {
	at, remote := s.AuthTime, s.Remote
	for _, name := range append(s.Former(), s.ID) {
		if use, ok := uses[sessionUse(name)]; ok && use.At.After(at) {
			at, remote = use.At, use.Remote
		}
	}
	return at, remote
}

// EndOtherSessions ends everything that was issued to a user, except a session and what was issued in
// it.
func (a *Accounts) EndOtherSessions(ctx context.Context, now time.Time, kept *Session, from Activity) error {
	var user User
	err := a.store.UpdateUser(ctx, kept.User.ID, func(stored *User) error {
		stored.AddEvent(now, from.event(EventSessionsEnded, ""))
		stored.End(now, kept)
		user = *stored.Clone()
		return nil
	})
	if err != nil {
		return fmt.Errorf("end the other sessions of a user: %w", err)
	}
	a.events.Record(ctx, event.SessionsAllEnded, named(&user))
	return nil
}

// AddEvent adds a security event that no other change of the user is stored with. A failure is logged.
func (a *Accounts) AddEvent(ctx context.Context, now time.Time, userID string, kind EventKind, detail string, from Activity) {
	err := a.store.UpdateUser(ctx, userID, func(stored *User) error {
		stored.AddEvent(now, from.event(kind, detail))
		return nil
	})
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		a.logger.Log(ctx, event.LevelOf(ctx, err), "security event not stored", slog.String("user", userID), slog.String("kind", string(kind)), slog.Any("error", err))
	}
}

// event returns a security event about what the user did.
func (m Activity) event(kind EventKind, detail string) SecurityEvent {
	remote, _ := netip.ParseAddr(m.Remote) // "" is the zero Addr
	return SecurityEvent{Kind: kind, Browser: m.Browser, Remote: remote, Detail: detail}
}

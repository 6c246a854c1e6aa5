package ui

import (
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/ui/messages"
)

type sessionView struct {
	ID      string
	Browser *messages.Text
	// Where is the approximate place and the address of the last use.
	Where string
	Since moment
	Used  moment
	This  bool
}

func (s *session) sessions(r *http.Request, uses map[string]storage.Use) ([]sessionView, error) {
	sessions, err := s.config.Accounts.Sessions(r.Context(), time.Now(), s.who.User.ID)
	if err != nil {
		return nil, err
	}
	var views []sessionView
	for i := range sessions {
		session := &sessions[i]
		used, remote := session.LastUse(uses)
		v := sessionView{
			ID: session.ID, Browser: browser(session.UserAgent), Where: s.where(remote),
			Since: moment{session.AuthTime, true}, Used: moment{used, true}, This: session.ID == s.who.ID,
		}
		views = append(views, v)
	}
	// The current session comes first, and then the one that was used last.
	slices.SortStableFunc(views, func(a, b sessionView) int {
		switch {
		case a.This:
			return -1
		case b.This:
			return 1
		}
		return b.Used.Compare(a.Used.Time)
	})
	return views, nil
}

// where describes an address: the approximate place, if there is a database of places, and the address
// itself.
func (s *session) where(address netip.Addr) string {
	var parts []string
	if s.config.Location != nil && address.IsValid() {
		if place := cleanName(s.config.Location(address, s.language.Tag)); place != "" {
			parts = append(parts, place)
		}
	}
	if words := addressWords(address); words != "" {
		parts = append(parts, words)
	}
	return strings.Join(parts, " · ")
}

// endSession ends one of the user's own sessions.
func (s *session) endSession(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needSignIn(w, r); done {
		return err
	}
	id := r.PostForm.Get("session")
	other, err := s.config.Accounts.SessionByID(r.Context(), time.Now(), id)
	switch {
	case errors.Is(err, storage.ErrNotFound):
	case err != nil:
		return err
	case other.User.ID == s.who.User.ID:
		if err := s.config.Accounts.EndSession(r.Context(), time.Now(), other.ID); err != nil {
			return err
		}
		s.config.Accounts.AddEvent(r.Context(), time.Now(), s.who.User.ID, identity.EventSessionEnded, s.language.Text(browser(other.UserAgent)), s.activity(r))
		s.server.SessionsEnded()
	}
	return s.notify(w, "ended")
}

// endOthers ends all sessions of the user except this one, with everything that was issued in them.
func (s *session) endOthers(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needSignIn(w, r); done {
		return err
	}
	if err := s.config.Accounts.EndOtherSessions(r.Context(), time.Now(), s.who, s.activity(r)); err != nil {
		return err
	}
	s.server.SessionsEnded()
	return s.notify(w, "ended-others")
}

// endSessions signs the user out on all devices, including this one.
func (s *session) endSessions(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needSignIn(w, r); done {
		return err
	}
	s.server.SignOut(w, r, func() error {
		identity.ClearSessionCookie(w, s.config.Issuer)
		s.config.Accounts.AddEvent(r.Context(), time.Now(), s.who.User.ID, identity.EventSessionsEnded, "", s.activity(r))
		return s.config.Accounts.EndSessions(r.Context(), time.Now(), s.who.User.ID)
	})
	return nil
}

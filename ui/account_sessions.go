package ui

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/ui/messages"
)

type sessionView struct {
	ID      string
	Browser *messages.Text
	Remote  string
	Since   moment
	This    bool
}

func (s *session) sessions(r *http.Request) ([]sessionView, error) {
	sessions, err := s.config.Accounts.Sessions(r.Context(), time.Now(), s.who.User.ID)
	if err != nil {
		return nil, err
	}
	var views []sessionView
	for _, session := range sessions {
		v := sessionView{ID: session.ID, Browser: browser(session.UserAgent), Since: moment{session.AuthTime, true}, This: session.ID == s.who.ID}
		if session.Remote.IsValid() {
			v.Remote = session.Remote.String()
		}
		views = append(views, v)
	}
	// The current session comes first; the others keep their order.
	slices.SortStableFunc(views, func(a, b sessionView) int {
		switch {
		case a.This:
			return -1
		case b.This:
			return 1
		}
		return 0
	})
	return views, nil
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
		s.server.SessionsEnded()
	}
	return s.notify(w, "ended")
}

// endSessions signs the user out on all devices, including this one.
func (s *session) endSessions(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needSignIn(w, r); done {
		return err
	}
	s.server.SignOut(w, r, func() error {
		identity.ClearSessionCookie(w, s.config.Issuer)
		return s.config.Accounts.EndSessions(r.Context(), time.Now(), s.who.User.ID)
	})
	return nil
}

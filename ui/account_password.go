package ui

import (
	"errors"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/ui/messages"
)

type passwordView struct {
	User       *identity.User
	Alert      *messages.Text
	CurrentBad bool // the alert is about the current password
	NewBad     bool
	// Removable is set if the user can sign in without the password.
	Removable bool
	// MinPassword is the minimum length of the new password.
	MinPassword int
	// Directory says that the password is that of a directory; nil if it is not. Contact says who can
	// help.
	Directory *messages.Text
	Contact   *contactView
}

func (s *session) showPassword(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needSignIn(w, r); done {
		return err
	}
	return s.writePassword(w, passwordView{}, pageResponse{})
}

func (s *session) writePassword(w http.ResponseWriter, v passwordView, a pageResponse) error {
	v.User, v.MinPassword = s.who.User, s.config.Accounts.MinPasswordRunes(s.who.User)
	if at, _ := s.directoryOf(s.who.User); at != nil && s.who.User.PasswordHash == "" {
		v.Directory, v.Contact = text("password.directory", "directory", cleanName(at.Name())), s.contact(nil)
	}
	v.Removable = s.config.Accounts.CanRemovePassword(s.who.User)
	a.template, a.title, a.account, a.data = "password", text("password.title"), s.who.User, v
	return s.write(w, a)
}

func (s *session) changePassword(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needSignIn(w, r); done {
		return err
	}
	err := s.config.Accounts.ChangePassword(r.Context(), time.Now(), identity.PasswordChange{
		UserID: s.who.User.ID, Current: r.PostForm.Get("current"), New: r.PostForm.Get("new"),
		Session: s.who.ID, EndOthers: r.PostForm.Has("end-others"), Activity: s.activity(r),
	})
	if err == nil {
		s.server.SessionsEnded()
		// All remembered devices were removed; this one is remembered again.
		if r.PostForm.Has("end-others") {
			if _, err := s.remember(r, w, time.Now(), s.who.User); err != nil {
				return err
			}
			return s.notify(w, "password-others")
		}
		return s.notify(w, "password")
	}
	var v passwordView
	if weak, ok := errors.AsType[*identity.WeakPasswordError](err); ok {
		v.Alert, v.NewBad = weakText(weak), true
		return s.writePassword(w, v, pageResponse{status: http.StatusBadRequest})
	}
	a, known := signInRefusal(err, &v.Alert)
	if !known {
		return err
	}
	if errors.Is(err, identity.ErrWrongCredentials) {
		v.Alert, v.CurrentBad = text("alert.current-password"), true
	}
	return s.writePassword(w, v, a)
}

// removePasswordPath removes the password.
const removePasswordPath = "/account/password/remove"

// removePassword removes the password of a user who can sign in without it.
func (s *session) removePassword(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needRecentProof(w, r, "/account/password"); done {
		return err
	}
	err := s.config.Accounts.RemovePassword(r.Context(), time.Now(), s.who.User.ID, s.activity(r))
	if errors.Is(err, identity.ErrLastMethod) {
		return s.redirect(w, "/account/password")
	}
	if err != nil {
		return err
	}
	return s.notify(w, "password-removed")
}

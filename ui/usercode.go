package ui

import (
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/ui/messages"
)

const userCodePath = "/account/user-code"

// userCodeState is what the account page shows about the user code (CIBA).
type userCodeState struct{ Set bool }

// userCode returns nil if no application uses user codes and the user has set none. If that cannot be
// read, the rest of the account page is shown without it.
func (s *session) userCode(r *http.Request) *userCodeState {
	used, err := s.server.UserCodes(r.Context())
	if err != nil {
		s.log.Log(r.Context(), event.LevelOf(r.Context(), err), "use of user codes not read", "error", err, slog.String("sub", s.who.User.ID))
	}
	state := userCodeState{Set: s.who.User.UserCodeHash != ""}
	if !used && !state.Set {
		return nil
	}
	return &state
}

type userCodeView struct {
	User     *identity.User
	Set      bool
	Alert    *messages.Text
	Shortest int
	Longest  int
}

// showUserCode is the page on which a user sets or removes the user code.
func (s *session) showUserCode(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needRecentProof(w, r, userCodePath); done {
		return err
	}
	return s.writeUserCode(w, userCodeView{}, pageResponse{})
}

func (s *session) writeUserCode(w http.ResponseWriter, v userCodeView, a pageResponse) error {
	v.User, v.Set = s.who.User, s.who.User.UserCodeHash != ""
	v.Shortest, v.Longest = identity.MinUserCode, identity.MaxUserCode
	a.template, a.title, a.account, a.data = "user-code", text("user-code.title"), s.who.User, v
	return s.write(w, a)
}

func (s *session) changeUserCode(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needRecentProof(w, r, userCodePath); done {
		return err
	}
	code := r.PostForm.Get("code")
	if r.PostForm.Has("remove") {
		if err := s.config.Accounts.RemoveUserCode(r.Context(), time.Now(), s.who.User.ID, s.activity(r)); err != nil {
			return err
		}
		return s.notify(w, "user-code-removed")
	}
	refused := func(alert *messages.Text) error {
		return s.writeUserCode(w, userCodeView{Alert: alert}, pageResponse{status: http.StatusBadRequest})
	}
	err := s.config.Accounts.SetUserCode(r.Context(), time.Now(), s.who.User.ID, code, s.activity(r))
	switch {
	case err == nil:
		return s.notify(w, "user-code")
	case code == "":
		return refused(text("user-code.missing"))
	case errors.Is(err, identity.ErrUserCodeLength):
		return refused(text("user-code.length", "shortest", identity.MinUserCode, "longest", identity.MaxUserCode))
	case errors.Is(err, identity.ErrUserCodeCharacters):
		return refused(text("user-code.characters"))
	case errors.Is(err, identity.ErrUserCodeWeak):
		return refused(text("user-code.weak"))
	case errors.Is(err, identity.ErrUserCodeIsPassword):
		return refused(text("user-code.password"))
	}
	var v userCodeView
	a, known := signInRefusal(err, &v.Alert)
	if !known {
		return err
	}
	return s.writeUserCode(w, v, a)
}

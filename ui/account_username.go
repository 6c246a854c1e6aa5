package ui

import (
	"errors"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/ui/messages"
)

const usernamePath = "/account/username"

type usernameView struct {
	User     *identity.User
	Username string
	Alert    *messages.Text
	NameBad  bool
}

// canChangeUsername reports whether the user may change the username: the operator allows it, and has
// not declared the user.
func (s *session) canChangeUsername() bool {
	return s.config.UsernameChange && s.who.User.Origin != identity.OriginDeclared
}

func (s *session) showUsername(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needRecentProof(w, r, usernamePath); done {
		return err
	}
	return s.writeUsername(w, r, usernameView{Username: s.who.User.Username}, pageResponse{})
}

func (s *session) writeUsername(w http.ResponseWriter, r *http.Request, v usernameView, a pageResponse) error {
	if !s.canChangeUsername() {
		s.NotFound(w, r)
		return nil
	}
	v.User = s.who.User
	a.template, a.title, a.account, a.data = "username", text("username.title"), s.who.User, v
	return s.write(w, a)
}

func (s *session) changeUsername(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needRecentProof(w, r, usernamePath); done {
		return err
	}
	if !s.canChangeUsername() {
		s.NotFound(w, r)
		return nil
	}
	v := usernameView{Username: cutRunes(clean(r.PostForm.Get("username")), 254), NameBad: true}
	err := s.config.Accounts.ChangeUsername(r.Context(), time.Now(), s.who.User.ID, r.PostForm.Get("username"), s.activity(r))
	if err == nil {
		return s.notify(w, "username")
	}
	if invalid, ok := errors.AsType[*identity.InvalidUserError](err); ok {
		v.Alert = invalidText(invalid)
		return s.writeUsername(w, r, v, pageResponse{status: http.StatusBadRequest})
	}
	if errors.Is(err, identity.ErrIdentifierTaken) {
		v.Alert = text("alert.username-taken")
		return s.writeUsername(w, r, v, pageResponse{status: http.StatusConflict})
	}
	return err
}

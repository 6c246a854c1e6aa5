package ui

import (
	"errors"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage"
)

// welcomePath is the page of the console with the next steps for the first administrator.
const welcomePath = "/console/welcome"

type setupView struct {
	Token string
	newPersonView
}

// showSetup shows the form for the first administrator to the holder of the setup link that
// the server prints on its first start. Once there is an administrator, the link is invalid.
func (s *session) showSetup(w http.ResponseWriter, r *http.Request) error {
	token := param(r, "token")
	err := s.config.Accounts.CheckSetupToken(r.Context(), time.Now(), token)
	if errors.Is(err, storage.ErrNotFound) {
		s.ErrorPage(w, r, pageError(http.StatusNotFound, pageSetupOver))
		return nil
	}
	if err != nil {
		return err
	}
	return s.writeSetup(w, setupView{Token: token}, pageResponse{})
}

func (s *session) writeSetup(w http.ResponseWriter, v setupView, a pageResponse) error {
	v.MinPassword = s.config.Accounts.MinPasswordRunes(&identity.User{})
	a.template, a.title, a.data = "setup", text("setup.short", "service", s.config.Name), v
	return s.write(w, a)
}

func (s *session) setUp(w http.ResponseWriter, r *http.Request) error {
	now := time.Now()
	v := setupView{r.PostForm.Get("token"), newPersonView{Username: r.PostForm.Get("username"), Email: r.PostForm.Get("email")}}
	user, err := s.config.Accounts.CreateAdministrator(r.Context(), now, v.Token, v.Username, v.Email, r.PostForm.Get("password"))
	if err == nil {
		if _, _, err := s.begin(w, r, now, user, []identity.ProvedMethod{{Method: identity.MethodPassword, At: now}}); err != nil {
			return err
		}
		return s.notifyAt(w, welcomePath, "setup")
	}
	if errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrSpent) {
		s.ErrorPage(w, r, pageError(http.StatusNotFound, pageSetupOver))
		return nil
	}
	a, known := v.refusal(err)
	if !known {
		return err
	}
	return s.writeSetup(w, v, a)
}

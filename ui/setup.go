package ui

import (
	"errors"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/storage"
)

type setupView struct {
	Token string
	newPersonView
}

// showSetup is there for whoever has the link that the first start printed, and for
// nobody once there is an administrator.
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
	return s.writeSetup(w, setupView{Token: token}, answer{})
}

func (s *session) writeSetup(w http.ResponseWriter, v setupView, a answer) error {
	a.template, a.title, a.data = "setup", "Set up "+s.config.Name, v
	return s.write(w, a)
}

func (s *session) setUp(w http.ResponseWriter, r *http.Request) error {
	now := time.Now()
	v := setupView{r.PostForm.Get("token"), newPersonView{Username: r.PostForm.Get("username"), Email: r.PostForm.Get("email")}}
	user, err := s.config.Accounts.CreateAdministrator(r.Context(), now, v.Token, v.Username, v.Email, r.PostForm.Get("password"))
	if err == nil {
		if _, err := s.begin(w, r, now, user); err != nil {
			return err
		}
		return s.notify(w, "setup")
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

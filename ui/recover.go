package ui

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/ui/messages"
)

// recoverPath is the page of a link from an operator for a user who has lost every way to sign in.
const recoverPath = "/recover"

// RecoveryPath returns the path and query of the page of a recovery.
func RecoveryPath(token string) string { return recoverPath + "?token=" + url.QueryEscape(token) }

type recoverView struct {
	Token, Username string
	Alert           *messages.Text
	NewBad          bool
}

func (s *session) showRecover(w http.ResponseWriter, r *http.Request) error {
	proof, err := s.config.Accounts.RecoveryByLink(r.Context(), time.Now(), r.URL.Query().Get("token"))
	if errors.Is(err, identity.ErrProofOver) {
		return s.linkOver(w, r)
	}
	if err != nil {
		return err
	}
	return s.writeRecover(w, r, recoverView{Token: r.URL.Query().Get("token")}, proof, pageResponse{})
}

func (s *session) writeRecover(w http.ResponseWriter, r *http.Request, v recoverView, proof *identity.Proof, a pageResponse) error {
	user, err := s.config.Accounts.AnyUser(r.Context(), proof.User)
	if err != nil {
		return s.linkOver(w, r)
	}
	v.Username = user.Username
	a.template, a.title, a.data = "recover", text("recover.title"), v
	return s.write(w, a)
}

func (s *session) recover(w http.ResponseWriter, r *http.Request) error {
	v := recoverView{Token: r.PostForm.Get("token")}
	proof, err := s.config.Accounts.RecoveryByLink(r.Context(), time.Now(), v.Token)
	if err == nil {
		err = s.config.Accounts.Recover(r.Context(), time.Now(), identity.PasswordReset{Proof: proof, Password: r.PostForm.Get("new"), Activity: s.activity(r)})
	}
	weak, isWeak := errors.AsType[*identity.WeakPasswordError](err)
	switch {
	case err == nil:
		s.server.SessionsEnded()
		return s.writeDone(w, text("reset.done.title"), doneView{Text: text("recover.done"), Button: text("sign-in.title"), Next: s.base + "/sign-in"})
	case errors.Is(err, identity.ErrProofOver):
		return s.linkOver(w, r)
	case isWeak:
		v.Alert, v.NewBad = weakText(weak), true
		return s.writeRecover(w, r, v, proof, pageResponse{status: http.StatusBadRequest})
	}
	a, known := signInRefusal(err, &v.Alert)
	if !known {
		return err
	}
	return s.writeRecover(w, r, v, proof, a)
}

package ui

import (
	"errors"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/ui/messages"
)

const (
	deletePath = "/account/delete"
	// restorePath is the only page of an account that is being deleted.
	restorePath = "/account/restore"
)

type deleteView struct {
	waiting
	User *identity.User
	// Refused is why the account cannot be deleted; nil if it can.
	Refused *messages.Text
	Days    int
	On      moment // when it is erased
}

// canDelete reports whether users may delete their accounts.
func (s *session) canDelete() bool { return s.config.DeletionGrace > 0 }

func (s *session) showDelete(w http.ResponseWriter, r *http.Request) error {
	if !s.canDelete() {
		s.NotFound(w, r)
		return nil
	}
	if done, err := s.needRecentProof(w, r, deletePath); done {
		return err
	}
	v := deleteView{}
	if s.who.User.Origin == identity.OriginDeclared {
		v.Refused = text("delete.declared")
	}
	return s.writeDelete(w, v, pageResponse{})
}

func (s *session) writeDelete(w http.ResponseWriter, v deleteView, a pageResponse) error {
	v.User, v.Days = s.who.User, int((s.config.DeletionGrace+24*time.Hour-1)/(24*time.Hour))
	a.template, a.title, a.account, a.data = "delete", text("delete.title"), s.who.User, v
	return s.write(w, a)
}

// deleteAccount asks for the deletion of the account and signs out everywhere.
func (s *session) deleteAccount(w http.ResponseWriter, r *http.Request) error {
	if !s.canDelete() {
		s.NotFound(w, r)
		return nil
	}
	if done, err := s.needRecentProof(w, r, deletePath); done {
		return err
	}
	err := s.config.Accounts.RequestDeletion(r.Context(), time.Now(), s.who.User.ID, s.config.DeletionGrace, s.activity(r))
	switch {
	case errors.Is(err, identity.ErrDeclared):
		return s.writeDelete(w, deleteView{Refused: text("delete.declared")}, pageResponse{status: http.StatusConflict})
	case errors.Is(err, identity.ErrLastAdministrator):
		return s.writeDelete(w, deleteView{Refused: text("delete.last-administrator")}, pageResponse{status: http.StatusConflict})
	case errors.Is(err, storage.ErrNotFound):
		return s.redirect(w, "/sign-in")
	case err != nil:
		return err
	}
	s.server.SessionsEnded()
	identity.ClearSessionCookie(w, s.config.Issuer)
	s.who = nil
	return s.writeDone(w, text("delete.done"), doneView{Text: text("delete.done.text"), Button: text("done.sign-in"), Next: s.base + "/sign-in"})
}

// mustRestore reports whether a request is redirected to the page of an account that is being deleted:
// its user can do nothing else.
func (s *session) mustRestore(p *page) bool {
	if s.who == nil || !s.who.User.BeingDeleted() {
		return false
	}
	switch p.path {
	case restorePath, "/sign-out", "/signed-out":
		return false
	}
	return true
}

func (s *session) showRestore(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needSignIn(w, r); done {
		return err
	}
	if !s.who.User.BeingDeleted() {
		return s.redirect(w, "/account")
	}
	v := deleteView{waiting: waitingParams(r), User: s.who.User, On: moment{s.who.User.Account.DeleteAfter, true}}
	return s.write(w, pageResponse{template: "restore", title: text("restore.title"), data: v})
}

// restore keeps the account, and continues the interaction that the user came for.
func (s *session) restore(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needSignIn(w, r); done {
		return err
	}
	err := s.config.Accounts.CancelDeletion(r.Context(), time.Now(), s.who, s.activity(r))
	if errors.Is(err, storage.ErrNotFound) { // it was canceled or erased at this moment
		return s.redirect(w, "/account")
	}
	if err != nil {
		return err
	}
	in, ok := s.interaction(w, r)
	if !ok {
		return nil
	}
	if in != nil {
		s.server.Authenticated(w, r, in.ID, authentication(s.who))
		return nil
	}
	return s.notify(w, "restored")
}

package ui

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/ui/messages"
)

type emailView struct {
	User               *identity.User
	Email              string
	NeedPassword       bool
	Alert              *messages.Text
	EmailBad           bool
	CurrentBad         bool
	Request            string // of the page that asks for the code
	CodeBad, JustAsked bool
}

// needEmailProof is needRecentProof for a change of the address, with which a user can sign in or choose a
// new password. If a password is all that the account needs, the form asks for it instead.
func (s *session) needEmailProof(w http.ResponseWriter, r *http.Request) (done bool, err error) {
	if s.who != nil && s.who.User.PasswordHash != "" && s.who.User.RecentProofClass() == identity.ClassOneFactor {
		return false, nil
	}
	return s.needRecentProof(w, r, "/account/email")
}

// showEmail asks a signed-in user for a new address.
func (s *session) showEmail(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needEmailProof(w, r); done {
		return err
	}
	v := emailView{}
	if !s.who.User.EmailVerified() {
		v.Email = s.who.User.Email()
	}
	return s.writeEmail(w, r, v, pageResponse{})
}

func (s *session) writeEmail(w http.ResponseWriter, r *http.Request, v emailView, a pageResponse) error {
	if !s.config.Accounts.CanMail() {
		s.NotFound(w, r)
		return nil
	}
	v.User, v.NeedPassword = s.who.User, s.who.User.PasswordHash != ""
	a.template, a.title, a.account, a.data = "email", text("email.title"), s.who.User, v
	return s.write(w, a)
}

// requestEmail sends a message to the new address.
func (s *session) requestEmail(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needEmailProof(w, r); done {
		return err
	}
	if !s.config.Accounts.CanMail() {
		s.NotFound(w, r)
		return nil
	}
	v := emailView{Email: cutRunes(clean(r.PostForm.Get("email")), 254)}
	request, err := s.config.Accounts.RequestEmail(r.Context(), time.Now(), s.emailRequest(w, r, s.who.User, r.PostForm.Get("email")))
	if err == nil {
		return s.redirect(w, "/account/email/code?request="+url.QueryEscape(request))
	}
	if invalid, ok := errors.AsType[*identity.InvalidUserError](err); ok {
		v.Alert, v.EmailBad = invalidText(invalid), true
		return s.writeEmail(w, r, v, pageResponse{status: http.StatusBadRequest})
	}
	a, known := signInRefusal(err, &v.Alert)
	if !known {
		return err
	}
	if errors.Is(err, identity.ErrWrongCredentials) {
		v.Alert, v.CurrentBad = text("alert.current-password"), true
	}
	return s.writeEmail(w, r, v, a)
}

func (s *session) emailRequest(w http.ResponseWriter, r *http.Request, user *identity.User, email string) identity.EmailRequest {
	return identity.EmailRequest{
		UserID: user.ID, Email: email, Current: r.PostForm.Get("current"), Remote: s.config.RemoteAddr(r), Browser: s.browserSecret(w, r), Language: s.language.Tag,
		Path: func(token string) string { return confirmEmailPath + "?token=" + url.QueryEscape(token) },
	}
}

// showEmailCode asks for the code from the message.
func (s *session) showEmailCode(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needSignIn(w, r); done {
		return err
	}
	return s.writeEmailCode(w, r, emailView{Request: r.URL.Query().Get("request")}, pageResponse{})
}

func (s *session) writeEmailCode(w http.ResponseWriter, r *http.Request, v emailView, a pageResponse) error {
	if v.Request == "" || !s.config.Accounts.CanMail() {
		s.NotFound(w, r)
		return nil
	}
	v.User = s.who.User
	a.template, a.title, a.account, a.data = "email-code", text("email.confirm.title"), s.who.User, v
	return s.write(w, a)
}

// emailCode confirms the address with the code.
func (s *session) emailCode(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needSignIn(w, r); done {
		return err
	}
	v := emailView{Request: r.PostForm.Get("request")}
	proof, err := s.config.Accounts.ProofByCode(r.Context(), time.Now(), identity.PurposeEmail, identity.BrowserCookie(r, s.config.Issuer), v.Request, r.PostForm.Get("code"))
	switch {
	case errors.Is(err, identity.ErrWrongCode):
		v.Alert, v.CodeBad = wrongCode(), true
		return s.writeEmailCode(w, r, v, pageResponse{status: http.StatusForbidden})
	case err == nil && proof.User != s.who.User.ID, errors.Is(err, identity.ErrProofOver):
		return s.linkOver(w, r)
	case err != nil:
		return err
	}
	return s.confirm(w, r, proof)
}

// confirm makes the address of a proof that of the account.
func (s *session) confirm(w http.ResponseWriter, r *http.Request, proof *identity.Proof) error {
	err := s.config.Accounts.ConfirmEmail(r.Context(), time.Now(), proof, s.activity(r))
	switch {
	case errors.Is(err, identity.ErrProofOver):
		return s.linkOver(w, r)
	case errors.Is(err, identity.ErrIdentifierTaken):
		s.ErrorPage(w, r, pageError(http.StatusConflict, pageAddressTaken))
		return nil
	case err != nil:
		return err
	}
	if s.who != nil && s.who.User.ID == proof.User {
		return s.notify(w, "email")
	}
	return s.writeDone(w, text("email.confirmed.title"), doneView{Text: text("common.close-page"), Button: text("common.go-to-account"), Next: s.base + "/account"})
}

type confirmEmailView struct {
	Email, Token string
	Code         string // shown in a browser that did not ask for the message; "" in the one that did
}

// showConfirmEmail is the page of the link. In the browser that asked for the message, it has a
// button. In another one, it shows the code to enter there: whoever opens the link cannot know
// which account the address would be added to.
func (s *session) showConfirmEmail(w http.ResponseWriter, r *http.Request) error {
	proof, err := s.emailProof(r, r.URL.Query().Get("token"))
	if errors.Is(err, identity.ErrProofOver) {
		return s.linkOver(w, r)
	}
	if err != nil {
		return err
	}
	return s.writeConfirmEmail(w, proof, r.URL.Query().Get("token"))
}

func (s *session) emailProof(r *http.Request, token string) (*identity.Proof, error) {
	return s.config.Accounts.ProofByLink(r.Context(), time.Now(), identity.PurposeEmail, token, identity.BrowserCookie(r, s.config.Issuer))
}

func (s *session) writeConfirmEmail(w http.ResponseWriter, proof *identity.Proof, token string) error {
	v := confirmEmailView{Email: proof.Email, Token: token}
	if !proof.SameBrowser {
		v.Token, v.Code = "", proof.Code[:4]+" "+proof.Code[4:]
	}
	return s.write(w, pageResponse{template: "confirm-email", title: text("email.confirm.title"), data: v})
}

func (s *session) confirmEmail(w http.ResponseWriter, r *http.Request) error {
	proof, err := s.emailProof(r, r.PostForm.Get("token"))
	if errors.Is(err, identity.ErrProofOver) {
		return s.linkOver(w, r)
	}
	if err != nil {
		return err
	}
	if !proof.SameBrowser {
		return s.writeConfirmEmail(w, proof, "")
	}
	return s.confirm(w, r, proof)
}

type undoEmailView struct {
	Email, Token string
	// Password is set if the page asks for the password, Impossible if that would be needed and cannot be
	// asked for. Keeps is set if, without it, second factors stay as they are.
	Password, Impossible, Keeps bool
	Alert                       *messages.Text
}

// showUndoEmail is the page of the link that undoes a change of the address or of a method.
func (s *session) showUndoEmail(w http.ResponseWriter, r *http.Request) error {
	return s.writeUndoEmail(w, r, undoEmailView{Token: r.URL.Query().Get("token")}, pageResponse{})
}

func (s *session) writeUndoEmail(w http.ResponseWriter, r *http.Request, v undoEmailView, a pageResponse) error {
	proof, err := s.config.Accounts.UndoByLink(r.Context(), time.Now(), v.Token)
	var needed, possible bool
	if err == nil {
		needed, possible, err = s.config.Accounts.UndoNeedsPassword(r.Context(), time.Now(), proof)
	}
	if errors.Is(err, identity.ErrProofOver) {
		return s.linkOver(w, r)
	}
	if err != nil {
		return err
	}
	v.Email = proof.Email
	v.Password, v.Impossible, v.Keeps = needed && possible, needed && !possible && v.Email == "", needed && v.Email != ""
	a.template, a.title, a.data = "undo-email", text("email.undo.short"), v
	return s.write(w, a)
}

func (s *session) undoEmail(w http.ResponseWriter, r *http.Request) error {
	v := undoEmailView{Token: r.PostForm.Get("token")}
	proof, err := s.config.Accounts.UndoByLink(r.Context(), time.Now(), v.Token)
	if err == nil {
		err = s.config.Accounts.Undo(r.Context(), time.Now(), identity.Undoing{Proof: proof, Password: r.PostForm.Get("password")})
	}
	switch {
	case err == nil:
	case errors.Is(err, identity.ErrProofOver):
		return s.linkOver(w, r)
	case errors.Is(err, identity.ErrUndoNeedsPassword):
		return s.writeUndoEmail(w, r, v, pageResponse{status: http.StatusForbidden})
	case errors.Is(err, identity.ErrIdentifierTaken):
		s.ErrorPage(w, r, pageError(http.StatusConflict, pageAddressTaken))
		return nil
	default:
		a, known := signInRefusal(err, &v.Alert)
		if !known {
			return err
		}
		if errors.Is(err, identity.ErrWrongCredentials) {
			v.Alert = text("alert.incorrect-password")
		}
		return s.writeUndoEmail(w, r, v, a)
	}
	s.server.SessionsEnded()
	undone := text("email.undone.text")
	if proof.Email == "" {
		undone = text("method.undone.text")
	}
	done := doneView{Text: undone, Button: text("common.go-to-sign-in"), Next: s.base + "/sign-in"}
	if s.config.PasswordReset {
		done.Button, done.Next = text("reset.title"), s.base+forgotPath
	}
	return s.writeDone(w, text("email.undone.title"), done)
}

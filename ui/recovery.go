package ui

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/ui/messages"
)

// The pages of a recovery by mail: a user who has lost everything but the mailbox asks for a message,
// begins the recovery with it, and receives a link when the delay is over (recover.go). Until then, it can
// be stopped.
const (
	recoveryPath      = "/recovery"
	beginRecoveryPath = recoveryPath + "/begin"
	stopRecoveryPath  = recoveryPath + "/stop"
	// pendingRecoveryPath is shown after a sign-in, keepAccountPath stops the recovery of a signed-in user.
	pendingRecoveryPath = "/sign-in/recovery"
	keepAccountPath     = "/account/stop-recovery"
)

// recoversByMail reports whether there is a recovery by mail. If not, it writes a page.
func (s *session) recoversByMail(w http.ResponseWriter, r *http.Request) bool {
	if s.config.Accounts.Recovery().MailDelay > 0 && s.config.Accounts.CanMail() {
		return true
	}
	s.NotFound(w, r)
	return false
}

// recoveryURL returns the URL of the page on which a recovery by mail begins; "" if there is none.
func (s *session) recoveryURL(v waiting) string {
	if s.config.Accounts.Recovery().MailDelay <= 0 || !s.config.Accounts.CanMail() {
		return ""
	}
	return s.base + recoveryPath + v.query()
}

type recoveryView struct {
	waiting
	Identifier string
	Alert      *messages.Text
	Delay      *messages.Text
	SignIn     string // URL
}

// showRecovery asks a user who has lost every way to sign in for the username.
func (s *session) showRecovery(w http.ResponseWriter, r *http.Request) error {
	return s.writeRecovery(w, r, recoveryView{}, pageResponse{})
}

func (s *session) writeRecovery(w http.ResponseWriter, r *http.Request, v recoveryView, a pageResponse) error {
	if !s.recoversByMail(w, r) {
		return nil
	}
	v.waiting, v.Delay = waitingParams(r), duration(s.config.Accounts.Recovery().MailDelay)
	v.SignIn = s.base + "/sign-in" + v.query()
	a.template, a.title, a.data = "recovery", text("recovery.title"), v
	return s.write(w, a)
}

// duration describes a duration.
func duration(d time.Duration) *messages.Text {
	switch {
	case d >= 48*time.Hour:
		return text("time.days", "count", int(d/(24*time.Hour)))
	case d >= 2*time.Hour:
		return text("time.hours", "count", int(d/time.Hour))
	}
	return text("time.minutes", "count", int(d/time.Minute))
}

// requestRecovery sends the message. The response is the same for known and unknown accounts.
func (s *session) requestRecovery(w http.ResponseWriter, r *http.Request) error {
	if !s.recoversByMail(w, r) {
		return nil
	}
	waits := waitingParams(r)
	request, err := s.config.Accounts.RequestRecovery(r.Context(), time.Now(), identity.MailRequest{
		Identifier: r.PostForm.Get("identifier"), Remote: s.config.RemoteAddr(r),
		Device: identity.DeviceCookie(r, s.config.Issuer), Browser: s.browserSecret(w, r), Language: s.language.Tag,
		Path: func(token string) string { return beginRecoveryPath + "?token=" + url.QueryEscape(token) },
	})
	if err == nil {
		return s.redirect(w, waits.with(beginRecoveryPath, "request", request))
	}
	v := recoveryView{Identifier: cutRunes(clean(r.PostForm.Get("identifier")), 254)}
	a, known := signInRefusal(err, &v.Alert)
	if !known {
		return err
	}
	if a.status == http.StatusTooManyRequests {
		v.Alert = tooManyMessages(a.retryAfter)
	}
	return s.writeRecovery(w, r, v, a)
}

type beginRecoveryView struct {
	waiting
	// Request and Token say how the page was reached: by asking for the message, or by its link.
	Request, Token   string
	AskCode, CodeBad bool
	Alert            *messages.Text
	Delay            *messages.Text
	Again            string // URL of the page that asks for another message
	Begun            bool
	Ready            moment // when the link is sent, if the recovery has begun
}

// showBeginRecovery explains what a recovery does, and asks for the code in a browser that has not opened
// the link that it asked for.
func (s *session) showBeginRecovery(w http.ResponseWriter, r *http.Request) error {
	v := beginRecoveryView{Request: r.URL.Query().Get("request"), Token: r.URL.Query().Get("token")}
	proof, err := s.beginProof(r, v)
	if errors.Is(err, identity.ErrProofOver) {
		return s.linkOver(w, r)
	}
	if err != nil {
		return err
	}
	return s.writeBeginRecovery(w, r, v, proof, pageResponse{})
}

// beginProof returns the proof of a link; nil if the page was not reached by one.
func (s *session) beginProof(r *http.Request, v beginRecoveryView) (*identity.Proof, error) {
	if v.Token == "" {
		return nil, nil
	}
	return s.config.Accounts.ProofByLink(r.Context(), time.Now(), identity.PurposeRecovery, v.Token, identity.BrowserCookie(r, s.config.Issuer))
}

func (s *session) writeBeginRecovery(w http.ResponseWriter, r *http.Request, v beginRecoveryView, proof *identity.Proof, a pageResponse) error {
	if v.Request == "" && v.Token == "" {
		s.NotFound(w, r)
		return nil
	}
	if !s.recoversByMail(w, r) {
		return nil
	}
	v.waiting, v.Delay = waitingParams(r), duration(s.config.Accounts.Recovery().MailDelay)
	v.AskCode = !v.Begun && (proof == nil || !proof.SameBrowser)
	v.Again = s.base + recoveryPath + v.query()
	a.template, a.title, a.data = "recovery-begin", text("recovery.title"), v
	if v.Begun {
		a.title = text("recovery.begun.title")
	}
	return s.write(w, a)
}

func (s *session) beginRecovery(w http.ResponseWriter, r *http.Request) error {
	if !s.recoversByMail(w, r) {
		return nil
	}
	now, form := time.Now(), r.PostForm
	v := beginRecoveryView{Request: form.Get("request"), Token: form.Get("token")}
	proof, err := s.beginProof(r, v)
	checked := proof
	switch {
	case err != nil:
	case proof == nil:
		checked, err = s.config.Accounts.ProofByCode(r.Context(), now, identity.PurposeRecovery, identity.BrowserCookie(r, s.config.Issuer), v.Request, form.Get("code"))
	case !proof.SameBrowser:
		err = s.config.Accounts.CheckCode(r.Context(), now, proof, form.Get("code"))
	}
	var ready time.Time
	if err == nil {
		ready, err = s.config.Accounts.BeginRecovery(r.Context(), now, checked, s.activity(r))
	}
	switch {
	case errors.Is(err, identity.ErrProofOver):
		return s.linkOver(w, r)
	case errors.Is(err, identity.ErrWrongCode):
		v.Alert, v.CodeBad = wrongCode(), true
		return s.writeBeginRecovery(w, r, v, proof, pageResponse{status: http.StatusForbidden})
	case err != nil:
		return err
	}
	v.Begun, v.Ready = true, moment{ready, true}
	return s.writeBeginRecovery(w, r, v, proof, pageResponse{})
}

type stopRecoveryView struct{ Token string }

// showStopRecovery is the page of the link that stops a recovery.
func (s *session) showStopRecovery(w http.ResponseWriter, r *http.Request) error {
	token := r.URL.Query().Get("token")
	_, err := s.config.Accounts.RecoveryToStop(r.Context(), time.Now(), token)
	if errors.Is(err, identity.ErrProofOver) {
		return s.linkOver(w, r)
	}
	if err != nil {
		return err
	}
	return s.write(w, pageResponse{template: "recovery-stop", title: text("recovery.stop.title"), data: stopRecoveryView{token}})
}

func (s *session) stopRecovery(w http.ResponseWriter, r *http.Request) error {
	proof, err := s.config.Accounts.RecoveryToStop(r.Context(), time.Now(), r.PostForm.Get("token"))
	if err == nil {
		err = s.config.Accounts.StopRecoveryByLink(r.Context(), time.Now(), proof, s.activity(r))
	}
	if errors.Is(err, identity.ErrProofOver) {
		return s.linkOver(w, r)
	}
	if err != nil {
		return err
	}
	return s.writeDone(w, text("recovery.stopped.title"), doneView{Text: text("recovery.stopped.text"), Button: text("common.go-to-sign-in"), Next: s.base + "/sign-in"})
}

// pendingRecovery is a recovery that waits, for the pages on which it can be stopped.
type pendingRecovery struct {
	Email string
	Ready moment
}

// pendingRecoveryOf returns the recovery of a user; nil if there is none.
func pendingRecoveryOf(user *identity.User) *pendingRecovery {
	if user.Account.Recovery == nil {
		return nil
	}
	return &pendingRecovery{user.Account.Recovery.Email, moment{user.Account.Recovery.ReadyAt, true}}
}

type pendingRecoveryView struct {
	waiting
	Recovery *pendingRecovery
	Continue string // URL
}

// showPendingRecovery tells a user who has signed in that someone recovers the account, before the sign-in
// continues.
func (s *session) showPendingRecovery(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needSignIn(w, r); done {
		return err
	}
	in, ok := s.interaction(w, r)
	if !ok {
		return nil
	}
	v := pendingRecoveryView{waiting: waitingFor(in), Recovery: pendingRecoveryOf(s.who.User), Continue: s.continueURL(in)}
	if v.Recovery == nil {
		s.continueAt(w, r, v.Continue)
		return nil
	}
	a := pageResponse{template: "recovery-pending", title: text("recovery.pending.title"), data: v}
	if in != nil {
		a.formAction = in.FormAction
	}
	return s.write(w, a)
}

// continueURL returns the URL with which a sign-in that is complete continues.
func (s *session) continueURL(in *authserver.Interaction) string {
	if in == nil {
		return s.base + "/account?" + signedInParam + "=1"
	}
	return s.server.ContinueURL(in)
}

// keepAccount stops the recovery of the signed-in user. It needs no recent proof: to stop it changes
// nothing about the account.
func (s *session) keepAccount(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.needSignIn(w, r); done {
		return err
	}
	in, ok := s.interaction(w, r)
	if !ok {
		return nil
	}
	if err := s.config.Accounts.StopRecovery(r.Context(), time.Now(), s.who.User.ID, s.activity(r)); err != nil {
		return err
	}
	if in != nil {
		s.continueAt(w, r, s.continueURL(in))
		return nil
	}
	return s.notify(w, "recovery-stopped")
}

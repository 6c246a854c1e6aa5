package ui

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/ui/messages"
)

type forgotView struct {
	waiting
	Identifier string
	Alert      *messages.Text
	SignIn     string // URL of the sign-in page
	Recovery   string // URL of the page for those who have lost more; "" if there is none
}

// showForgot asks a user who has forgotten the password for the username.
func (s *session) showForgot(w http.ResponseWriter, r *http.Request) error {
	return s.writeForgot(w, r, forgotView{}, pageResponse{})
}

func (s *session) writeForgot(w http.ResponseWriter, r *http.Request, v forgotView, a pageResponse) error {
	if !s.config.PasswordReset {
		s.NotFound(w, r)
		return nil
	}
	v.waiting = waitingParams(r)
	v.SignIn, v.Recovery = s.base+"/sign-in"+v.query(), s.recoveryURL(v.waiting)
	a.template, a.title, a.data = "forgot", text("forgot.title"), v
	return s.write(w, a)
}

// forgot sends the message. The response is the same for known and unknown accounts.
func (s *session) forgot(w http.ResponseWriter, r *http.Request) error {
	if !s.config.PasswordReset {
		s.NotFound(w, r)
		return nil
	}
	waits := waitingParams(r)
	request, err := s.config.Accounts.RequestReset(r.Context(), time.Now(), identity.MailRequest{
		Identifier: r.PostForm.Get("identifier"), Remote: s.config.RemoteAddr(r),
		Device: identity.DeviceCookie(r, s.config.Issuer), Browser: s.browserSecret(w, r), Language: s.language.Tag,
		Path: func(token string) string { return waits.with(resetPath, "token", token) },
	})
	if err != nil {
		v := forgotView{Identifier: cutRunes(clean(r.PostForm.Get("identifier")), 254)}
		a, known := signInRefusal(err, &v.Alert)
		if !known {
			return err
		}
		if a.status == http.StatusTooManyRequests {
			v.Alert = tooManyMessages(a.retryAfter)
		}
		return s.writeForgot(w, r, v, a)
	}
	return s.redirect(w, waits.with(resetPath, "request", request))
}

func tooManyMessages(wait time.Duration) *messages.Text {
	return text("alert.too-many-messages", "wait", inTime(wait))
}

type resetView struct {
	waiting
	// Request and Token say how the page was reached: by asking for the message, or by its link.
	Request, Token  string
	AskCode         bool
	Username        string // for password managers; "" if the browser did not ask for the message
	Alert           *messages.Text
	CodeBad, NewBad bool
	// MinPassword is the minimum length that the page asks for, MinLength the one that the browser
	// requires: which one applies is not known before the code is.
	MinPassword, MinLength int
	Again                  string // URL of the page that asks for another message
}

// showReset asks for a new password, and for the code in a browser that has not opened the link
// that it asked for.
func (s *session) showReset(w http.ResponseWriter, r *http.Request) error {
	v := resetView{Request: r.URL.Query().Get("request"), Token: r.URL.Query().Get("token")}
	if v.Token == "" {
		return s.writeReset(w, r, v, nil, pageResponse{})
	}
	proof, err := s.config.Accounts.ProofByLink(r.Context(), time.Now(), identity.PurposeReset, v.Token, identity.BrowserCookie(r, s.config.Issuer))
	if errors.Is(err, identity.ErrProofOver) {
		return s.linkOver(w, r)
	}
	if err != nil {
		return err
	}
	return s.writeReset(w, r, v, proof, pageResponse{})
}

// writeReset writes the page. proof is nil if the page was not reached by a link.
func (s *session) writeReset(w http.ResponseWriter, r *http.Request, v resetView, proof *identity.Proof, a pageResponse) error {
	if !s.config.PasswordReset || v.Request == "" && v.Token == "" {
		s.NotFound(w, r)
		return nil
	}
	v.waiting = waitingParams(r)
	v.AskCode = proof == nil || !proof.SameBrowser
	v.MinPassword, v.MinLength = s.config.Accounts.MinPasswordRunes(&identity.User{}), identity.MinPasswordRunes
	if !v.AskCode {
		user, err := s.config.Accounts.AnyUser(r.Context(), proof.User)
		if err != nil {
			return s.linkOver(w, r)
		}
		v.Username = user.Username
		v.MinPassword = s.config.Accounts.MinPasswordRunes(user)
		v.MinLength = v.MinPassword
	}
	v.Again = s.base + forgotPath + v.query()
	a.template, a.title, a.data = "reset", text("reset.title"), v
	return s.write(w, a)
}

// reset sets the new password.
func (s *session) reset(w http.ResponseWriter, r *http.Request) error {
	if !s.config.PasswordReset {
		s.NotFound(w, r)
		return nil
	}
	now, form := time.Now(), r.PostForm
	v := resetView{Request: form.Get("request"), Token: form.Get("token")}
	browserSecret := identity.BrowserCookie(r, s.config.Issuer)
	var proof *identity.Proof
	var err error
	if v.Token != "" {
		proof, err = s.config.Accounts.ProofByLink(r.Context(), now, identity.PurposeReset, v.Token, browserSecret)
		if errors.Is(err, identity.ErrProofOver) {
			return s.linkOver(w, r)
		}
		if err != nil {
			return err
		}
	}
	// A password that is not allowed costs no attempt.
	err = identity.CheckPassword(form.Get("new"), &identity.User{})
	checked := proof
	switch {
	case err != nil:
	case proof == nil:
		checked, err = s.config.Accounts.ProofByCode(r.Context(), now, identity.PurposeReset, browserSecret, v.Request, form.Get("code"))
	case !proof.SameBrowser:
		err = s.config.Accounts.CheckCode(r.Context(), now, proof, form.Get("code"))
	}
	if err == nil {
		err = s.config.Accounts.ResetPassword(r.Context(), now, identity.PasswordReset{Proof: checked, Password: form.Get("new"), Activity: s.activity(r)})
	}
	if err == nil {
		s.server.SessionsEnded()
		return s.writeDone(w, text("reset.done.title"), doneView{
			Text: text("reset.done.text"), Button: text("sign-in.title"), Next: s.base + "/sign-in" + waitingParams(r).query(),
		})
	}
	weak, isWeak := errors.AsType[*identity.WeakPasswordError](err)
	switch {
	case errors.Is(err, identity.ErrProofOver):
		return s.linkOver(w, r)
	case errors.Is(err, identity.ErrWrongCode):
		v.Alert, v.CodeBad = wrongCode(), true
		return s.writeReset(w, r, v, proof, pageResponse{status: http.StatusForbidden})
	case isWeak:
		// The first check knows no user, and so the shortest minimum. The page says the one that it shows.
		if weak.Min > 0 {
			weak.Min = s.resetMinimum(r, proof)
		}
		v.Alert, v.NewBad = weakText(weak), true
		return s.writeReset(w, r, v, proof, pageResponse{status: http.StatusBadRequest})
	}
	a, known := signInRefusal(err, &v.Alert)
	if !known {
		return err
	}
	return s.writeReset(w, r, v, proof, a)
}

// resetMinimum returns the minimum length of the new password: that of the user, if the browser may know who it is.
func (s *session) resetMinimum(r *http.Request, proof *identity.Proof) int {
	if proof != nil && proof.SameBrowser {
		if user, err := s.config.Accounts.AnyUser(r.Context(), proof.User); err == nil {
			return s.config.Accounts.MinPasswordRunes(user)
		}
	}
	return s.config.Accounts.MinPasswordRunes(&identity.User{})
}

// wrongCode returns the message for a code that is not that of the message.
func wrongCode() *messages.Text { return text("alert.wrong-code") }

// changePasswordPath is where password managers look for the page that changes the password (A
// Well-Known URL for Changing Passwords). It is at the root of the host.
const changePasswordPath = "/.well-known/change-password"

func (u *UI) redirectToChangePassword(w http.ResponseWriter) {
	u.setCommonHeaders(w.Header())
	w.Header().Set("Location", (&url.URL{Path: u.base + "/account/password"}).String())
	w.WriteHeader(http.StatusFound)
}

package ui

import (
	"errors"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/ui/messages"
)

// Pages of the sign-in with a message.
const (
	signInEmailPath     = "/sign-in/email"
	signInEmailCodePath = signInEmailPath + "/code"
	signInEmailLinkPath = signInEmailPath + "/link"
)

type emailSignInView struct {
	waiting
	Identifier string
	Alert      *messages.Text
	CodeBad    bool
	// Request and Token say how the page was reached: by asking for the message, or by its link.
	Request, Token string
	Code           string // shown in a browser that did not ask for the message; "" in the one that did
	SignIn, Again  string // URLs of the sign-in page and of the page that asks for a message
}

// showEmailSignIn asks a user who signs in with a message for the username or address.
func (s *session) showEmailSignIn(w http.ResponseWriter, r *http.Request) error {
	v := emailSignInView{}
	if s.who != nil {
		v.Identifier = s.who.User.Username
	}
	return s.writeEmailSignIn(w, r, "sign-in-email", v, pageResponse{})
}

func (s *session) writeEmailSignIn(w http.ResponseWriter, r *http.Request, template string, v emailSignInView, a pageResponse) error {
	if !s.config.EmailSignIn {
		s.NotFound(w, r)
		return nil
	}
	v.waiting = waitingParams(r)
	v.SignIn, v.Again = s.base+"/sign-in"+v.query(), s.base+signInEmailPath+v.query()
	a.template, a.title, a.data = template, text("sign-in.title"), v
	return s.write(w, a)
}

// requestEmailSignIn sends the message. The response is the same for known and unknown accounts.
func (s *session) requestEmailSignIn(w http.ResponseWriter, r *http.Request) error {
	if !s.config.EmailSignIn {
		s.NotFound(w, r)
		return nil
	}
	waits := waitingParams(r)
	request, err := s.config.Accounts.RequestSignIn(r.Context(), time.Now(), identity.MailRequest{
		Identifier: r.PostForm.Get("identifier"), Remote: s.config.RemoteAddr(r),
		Device: identity.DeviceCookie(r, s.config.Issuer), Browser: s.browserSecret(w, r), Language: s.language.Tag,
		Path: func(token string) string { return waits.with(signInEmailLinkPath, "token", token) },
	})
	if err == nil {
		return s.redirect(w, waits.with(signInEmailCodePath, "request", request))
	}
	v := emailSignInView{Identifier: cutRunes(clean(r.PostForm.Get("identifier")), 254)}
	a, known := signInRefusal(err, &v.Alert)
	if !known {
		return err
	}
	if a.status == http.StatusTooManyRequests {
		v.Alert = tooManyMessages(a.retryAfter)
	}
	return s.writeEmailSignIn(w, r, "sign-in-email", v, a)
}

// showEmailSignInCode asks for the code from the message.
func (s *session) showEmailSignInCode(w http.ResponseWriter, r *http.Request) error {
	v := emailSignInView{Request: r.URL.Query().Get("request")}
	if v.Request == "" {
		return s.redirect(w, signInEmailPath+waitingParams(r).query())
	}
	return s.writeEmailSignIn(w, r, "sign-in-email-code", v, pageResponse{})
}

// emailSignInCode signs in with the code.
func (s *session) emailSignInCode(w http.ResponseWriter, r *http.Request) error {
	v := emailSignInView{Request: r.PostForm.Get("request")}
	if !s.config.EmailSignIn {
		s.NotFound(w, r)
		return nil
	}
	proof, err := s.config.Accounts.ProofByCode(r.Context(), time.Now(), identity.PurposeSignIn, identity.BrowserCookie(r, s.config.Issuer), v.Request, r.PostForm.Get("code"))
	if errors.Is(err, identity.ErrWrongCode) {
		v.Alert, v.CodeBad = text("alert.wrong-code"), true
		return s.writeEmailSignIn(w, r, "sign-in-email-code", v, pageResponse{status: http.StatusForbidden})
	}
	return s.signInWithProof(w, r, proof, err)
}

// showEmailSignInLink is the page of the link. In the browser that asked for the message, it has a
// button. In another one, it shows the code to enter there: nobody is signed in by opening a link that
// somebody else has asked for.
func (s *session) showEmailSignInLink(w http.ResponseWriter, r *http.Request) error {
	if !s.config.EmailSignIn {
		s.NotFound(w, r)
		return nil
	}
	token := r.URL.Query().Get("token")
	proof, err := s.config.Accounts.ProofByLink(r.Context(), time.Now(), identity.PurposeSignIn, token, identity.BrowserCookie(r, s.config.Issuer))
	if errors.Is(err, identity.ErrProofOver) {
		return s.linkOver(w, r)
	}
	if err != nil {
		return err
	}
	v := emailSignInView{Token: token}
	if !proof.SameBrowser {
		v.Token, v.Code = "", proof.Code[:4]+" "+proof.Code[4:]
	}
	return s.writeEmailSignIn(w, r, "sign-in-email-link", v, pageResponse{})
}

// emailSignInLink signs in with the link, in the browser that asked for it.
func (s *session) emailSignInLink(w http.ResponseWriter, r *http.Request) error {
	if !s.config.EmailSignIn {
		s.NotFound(w, r)
		return nil
	}
	token := r.PostForm.Get("token")
	proof, err := s.config.Accounts.ProofByLink(r.Context(), time.Now(), identity.PurposeSignIn, token, identity.BrowserCookie(r, s.config.Issuer))
	if err == nil && !proof.SameBrowser {
		v := emailSignInView{Code: proof.Code[:4] + " " + proof.Code[4:]}
		return s.writeEmailSignIn(w, r, "sign-in-email-link", v, pageResponse{status: http.StatusForbidden})
	}
	return s.signInWithProof(w, r, proof, err)
}

// signInWithProof signs in the user of a proof, or writes the page for the error of finding it. An
// interaction that has expired does not use up the proof.
func (s *session) signInWithProof(w http.ResponseWriter, r *http.Request, proof *identity.Proof, err error) error {
	if err == nil {
		in, ok := s.interaction(w, r)
		if !ok {
			return nil
		}
		var user *identity.User
		var proved identity.ProvedMethod
		if user, proved, err = s.config.Accounts.ProveEmail(r.Context(), time.Now(), proof); err == nil {
			return s.proved(w, r, in, user, proved)
		}
	}
	if errors.Is(err, identity.ErrProofOver) {
		return s.linkOver(w, r)
	}
	return err
}

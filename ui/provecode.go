package ui

import (
	"errors"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/ui/messages"
)

// The pages on which a user proves a second factor with a code. They are reached only after another
// method was proved, so that nobody else can try codes or learn which methods an account has.
const (
	proveTOTPPath         = "/sign-in/totp"
	proveRecoveryCodePath = "/sign-in/recovery-code"
)

type proveCodeView struct {
	waiting
	Username string
	Alert    *messages.Text
	// Upgrade is set if the browser may create a passkey afterwards (passkey_upgrade.go).
	Upgrade bool
	// RememberDays is for how long the user may choose not to be asked again; zero if that is not offered.
	RememberDays int
	// Other is the URL of the page with the other ways, Recovery that of the page for those who have lost
	// everything; "" if there is none.
	Other, Recovery string
}

// provesCode returns the sign-in of this browser, if the user has a method; otherwise it redirects.
func (s *session) provesCode(w http.ResponseWriter, r *http.Request, method identity.Method) (at *signingIn, err error) {
	at, err = s.signingIn(r)
	switch {
	case err != nil:
		return nil, err
	case at == nil:
		return nil, s.signInAgain(w, r)
	case !at.user.Has(method), method == identity.MethodRecoveryCode && !s.recoveryCodeCounts(at):
		return nil, s.redirect(w, factorPath+waitingParams(r).query())
	}
	return at, nil
}

func (s *session) writeProveCode(w http.ResponseWriter, r *http.Request, at *signingIn, template string, title, alert *messages.Text, a pageResponse) error {
	v := proveCodeView{waiting: waitingParams(r), Username: at.user.Username, Alert: alert}
	if v.Return == "" {
		v.RememberDays = int(s.config.Accounts.Policy().RememberSecondFactor / (24 * time.Hour))
	}
	if len(s.offered(at)) > 1 {
		v.Other = s.base + factorPath + v.query()
	}
	v.Upgrade = s.config.Passkeys != nil && v.Return == "" && s.upgradable(time.Now(), at.user, at.proofs)
	a.passkeys = v.Upgrade
	if s.who == nil {
		v.Recovery = s.recoveryURL(v.waiting)
	}
	a.template, a.title, a.data = template, title, v
	return s.write(w, a)
}

// factorAttempt describes an attempt at a second factor.
func (s *session) factorAttempt(r *http.Request, at *signingIn, method identity.Method) identity.FactorAttempt {
	return identity.FactorAttempt{
		User: at.user, Method: method, Progress: at.progress,
		Remote: s.config.RemoteAddr(r), Device: identity.DeviceCookie(r, s.config.Issuer),
	}
}

// codePage is a page on which a user proves a second factor with a code.
type codePage struct {
	method   identity.Method
	template string
	title    *messages.Text
	wrong    *messages.Text // for a wrong code
	prove    func(*session, *http.Request, identity.FactorAttempt, string) (identity.ProvedMethod, error)
}

var totpPage = codePage{
	method: identity.MethodTOTP, template: "sign-in-totp", title: text("totp.prove.title"), wrong: text("totp.prove.wrong"),
	prove: func(s *session, r *http.Request, f identity.FactorAttempt, code string) (identity.ProvedMethod, error) {
		return s.config.Accounts.ProveTOTP(r.Context(), time.Now(), f, code)
	},
}

var recoveryCodePage = codePage{
	method: identity.MethodRecoveryCode, template: "sign-in-recovery-code", title: text("recovery-codes.prove.title"), wrong: text("recovery-codes.prove.wrong"),
	prove: func(s *session, r *http.Request, f identity.FactorAttempt, code string) (identity.ProvedMethod, error) {
		proof, left, err := s.config.Accounts.ProveRecoveryCode(r.Context(), time.Now(), f, code, s.activity(r))
		if err == nil && left <= identity.FewRecoveryCodes {
			s.then = fewCodesPath
		}
		return proof, err
	},
}

func (s *session) showProveTOTP(w http.ResponseWriter, r *http.Request) error {
	return s.showCodePage(w, r, &totpPage)
}

func (s *session) proveTOTP(w http.ResponseWriter, r *http.Request) error {
	return s.proveCode(w, r, &totpPage)
}

func (s *session) showProveRecoveryCode(w http.ResponseWriter, r *http.Request) error {
	return s.showCodePage(w, r, &recoveryCodePage)
}

func (s *session) proveRecoveryCode(w http.ResponseWriter, r *http.Request) error {
	return s.proveCode(w, r, &recoveryCodePage)
}

func (s *session) showCodePage(w http.ResponseWriter, r *http.Request, p *codePage) error {
	at, err := s.provesCode(w, r, p.method)
	if at == nil {
		return err
	}
	return s.writeProveCode(w, r, at, p.template, p.title, nil, pageResponse{})
}

func (s *session) proveCode(w http.ResponseWriter, r *http.Request, p *codePage) error {
	at, err := s.provesCode(w, r, p.method)
	if at == nil {
		return err
	}
	in, ok := s.interaction(w, r)
	if !ok {
		return nil
	}
	proof, err := p.prove(s, r, s.factorAttempt(r, at, p.method), r.PostForm.Get("code"))
	if err == nil {
		return s.proved(w, r, in, at.user, proof)
	}
	alert, a, known := codeRefusal(err, p.wrong)
	switch {
	case errors.Is(err, identity.ErrSignInOver):
		return s.signInAgain(w, r)
	case !known:
		return err
	}
	return s.writeProveCode(w, r, at, p.template, p.title, alert, a)
}

// codeRefusal returns the message for a code that was not accepted; known is false for another error.
func codeRefusal(err error, wrong *messages.Text) (alert *messages.Text, a pageResponse, known bool) {
	if errors.Is(err, identity.ErrWrongCode) {
		return wrong, pageResponse{status: http.StatusForbidden}, true
	}
	a, known = signInRefusal(err, &alert)
	return alert, a, known
}

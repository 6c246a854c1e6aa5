package ui

import (
	"cmp"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/identity/passkey"
	"github.com/valetkey/valetkey/mail"
	"github.com/valetkey/valetkey/ui/messages"
)

// SignUpPath is the path of the page where users create their own accounts, below the issuer.
const SignUpPath = "/sign-up"

// The values of Config.SignUpRequires.
const (
	SignUpInvitation  = "invitation"
	SignUpEmailDomain = "email_domain"
)

type signUpView struct {
	waiting
	ClientName string
	newPersonView
	SignIn string // URL of the sign-in page
	// Invitation, Request and Token say how the page was reached: by an invitation, by asking for
	// a message, or by its link.
	Invitation, Request, Token string
	AskCode, CodeBad           bool
	Proven                     string // the address of the account; "" if it has none yet
	Passkey                    *passkeyView
}

// newPersonView is the data that forms that create a user have in common.
type newPersonView struct {
	Username, Email string
	Alert           *messages.Text
	NameBad, NewBad bool
	NoEmail         bool // the form does not ask for an address
	MinPassword     int  // the minimum length of the password
}

// showSignUp shows the page where users create their own accounts, if the operator allows it.
// An application can send them there (prompt=create, Initiating User Registration via OpenID
// Connect).
func (s *session) showSignUp(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	v := signUpView{Invitation: query.Get("invitation"), Request: query.Get("request"), Token: query.Get("token")}
	proof, ok, err := s.signUpProof(w, r, v)
	if !ok {
		return err
	}
	return s.writeSignUp(w, r, v, proof, pageResponse{})
}

// signUpProof returns the invitation or the link with which a user came; nil if there is none. If
// ok is false, it has written a page or returns an error.
func (s *session) signUpProof(w http.ResponseWriter, r *http.Request, v signUpView) (proof *identity.Proof, ok bool, err error) {
	switch {
	case !s.config.SignUp:
		s.NotFound(w, r)
		return nil, false, nil
	case v.Invitation != "":
		proof, err = s.config.Accounts.Invitation(r.Context(), time.Now(), v.Invitation)
	case v.Token != "":
		proof, err = s.config.Accounts.ProofByLink(r.Context(), time.Now(), identity.PurposeSignUp, v.Token, identity.BrowserCookie(r, s.config.Issuer))
	}
	if errors.Is(err, identity.ErrProofOver) {
		return nil, false, s.linkOver(w, r)
	}
	return proof, err == nil, err
}

// writeSignUp writes the page. proof is the result of signUpProof.
func (s *session) writeSignUp(w http.ResponseWriter, r *http.Request, v signUpView, proof *identity.Proof, a pageResponse) error {
	in, ok := s.interaction(w, r)
	if !ok {
		return nil
	}
	v.waiting = waitingFor(in)
	if in != nil {
		a.formAction = in.FormAction
		if in.Client != nil {
			v.ClientName = s.clientOf(r, in)
		}
	}
	v.SignIn = s.base + "/sign-in" + v.query()
	v.MinPassword = s.config.Accounts.MinPasswordRunes(&identity.User{})
	a.template, a.title = "sign-up", text("sign-up.title")
	switch {
	case proof != nil:
		v.Proven = proof.Email
		v.AskCode = v.Token != "" && !proof.SameBrowser
	case s.config.SignUpRequires == SignUpInvitation:
		a.template, a.status = "sign-up-closed", http.StatusForbidden
	case s.config.SignUpRequires == SignUpEmailDomain && v.Request == "":
		a.template = "sign-up-email"
	case s.config.SignUpRequires == SignUpEmailDomain:
		v.AskCode = true
	}
	if a.template == "sign-up" {
		v.Passkey, a.passkeys = s.passkeys(v.waiting), s.config.Passkeys != nil
	}
	v.NoEmail = proof != nil || v.AskCode || !s.config.Accounts.CanMail()
	a.data = v
	return s.write(w, a)
}

// signUpEmail sends a message to the address of a user who wants an account.
func (s *session) signUpEmail(w http.ResponseWriter, r *http.Request) error {
	if !s.config.SignUp || s.config.SignUpRequires != SignUpEmailDomain {
		s.NotFound(w, r)
		return nil
	}
	waits := waitingParams(r)
	v := signUpView{newPersonView: newPersonView{Email: cutRunes(clean(r.PostForm.Get("email")), 254)}}
	address, err := mail.ParseAddress(r.PostForm.Get("email"))
	if err == nil && !slices.Contains(s.config.SignUpEmailDomains, mail.Domain(address)) {
		v.Alert, v.NameBad = text("sign-up.use-domain", "domains", strings.Join(s.config.SignUpEmailDomains, ", ")), true
		return s.writeSignUp(w, r, v, nil, pageResponse{status: http.StatusForbidden})
	}
	request, err := s.config.Accounts.RequestSignUp(r.Context(), time.Now(), identity.SignUpRequest{
		Email: r.PostForm.Get("email"), Remote: s.config.RemoteAddr(r), Browser: s.browserSecret(w, r), Language: s.language.Tag,
		Path: func(token string) string { return waits.with(SignUpPath, "token", token) },
	})
	if err == nil {
		return s.redirect(w, waits.with(SignUpPath, "request", request))
	}
	a, known := v.refusal(err)
	if !known {
		return err
	}
	if a.status == http.StatusTooManyRequests {
		v.Alert = tooManyMessages(a.retryAfter)
	}
	return s.writeSignUp(w, r, v, nil, a)
}

func (s *session) signUp(w http.ResponseWriter, r *http.Request) error {
	now, form := time.Now(), r.PostForm
	v := signUpView{
		Invitation: form.Get("invitation"), Request: form.Get("request"), Token: form.Get("token"),
		newPersonView: newPersonView{Username: form.Get("username"), Email: form.Get("email")},
	}
	proof, ok, err := s.signUpProof(w, r, v)
	if !ok {
		return err
	}
	if proof == nil && (s.config.SignUpRequires == SignUpInvitation || s.config.SignUpRequires == SignUpEmailDomain && v.Request == "") {
		return s.writeSignUp(w, r, v, nil, pageResponse{})
	}
	in, ok := s.interaction(w, r)
	if !ok {
		return nil
	}
	account := identity.NewAccount{Username: v.Username, Password: form.Get("password"), Remote: s.config.RemoteAddr(r), Proof: proof}
	proved := identity.ProvedMethod{Method: identity.MethodPassword, At: now}
	if s.config.Passkeys != nil && form.Has("response") {
		alert, err := s.withPasskey(r, now, &account, &proved)
		if err != nil {
			return err
		}
		if alert != nil {
			v.Alert = alert
			return s.writeSignUp(w, r, v, proof, pageResponse{status: http.StatusBadRequest})
		}
	}
	user, err := s.createAccount(r, now, v, account)
	if err != nil {
		if errors.Is(err, identity.ErrProofOver) {
			return s.linkOver(w, r)
		}
		a, known := v.refusal(err)
		if !known {
			return err
		}
		return s.writeSignUp(w, r, v, proof, a)
	}
	request := ""
	if proof == nil && v.Email != "" && s.config.Accounts.CanMail() {
		asks := s.emailRequest(w, r, user, v.Email)
		asks.New = true
		if request, err = s.config.Accounts.RequestEmail(r.Context(), now, asks); err != nil {
			// The account exists. The user can ask for the message again.
			s.log.WarnContext(r.Context(), "message to the address of a new user not sent", "user", user.ID, "error", err)
		}
	}
	s.justCreated = true
	if in == nil && request != "" {
		s.then = "/account/email/code?request=" + request
	}
	if account.Passkey != nil {
		proved.Authenticator = user.Authenticators[0].ID
	}
	return s.proved(w, r, in, user, proved)
}

// mayAskForName reports whether a browser gets the options for an account with a passkey, and whether it
// may be told that the name is taken: only one that has proved all that a sign-up requires, or else
// strangers who may not sign up could look for names. A code is checked later, with the passkey.
func (s *session) mayAskForName(r *http.Request) (may, tell bool, err error) {
	form, now := r.PostForm, time.Now()
	var proof *identity.Proof
	switch {
	case form.Get("invitation") != "":
		proof, err = s.config.Accounts.Invitation(r.Context(), now, form.Get("invitation"))
	case s.config.SignUpRequires == "":
		return true, true, nil
	case s.config.SignUpRequires == SignUpInvitation:
		return false, false, nil
	case form.Get("token") != "":
		proof, err = s.config.Accounts.ProofByLink(r.Context(), now, identity.PurposeSignUp, form.Get("token"), identity.BrowserCookie(r, s.config.Issuer))
	default:
		return form.Get("request") != "", false, nil
	}
	if errors.Is(err, identity.ErrProofOver) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	return true, form.Get("invitation") != "" || proof.SameBrowser, nil
}

// withPasskey gives a new account the passkey that the browser has created for it, instead of a password.
func (s *session) withPasskey(r *http.Request, now time.Time, account *identity.NewAccount, proved *identity.ProvedMethod) (*messages.Text, error) {
	id, err := base64.RawURLEncoding.DecodeString(r.PostForm.Get("user"))
	if err != nil {
		return text("alert.passkey-not-added"), nil
	}
	created, err := s.verifyCreation(r, now, passkey.SignUp, string(id))
	if err != nil {
		return s.creationRefused(r, string(id), err)
	}
	account.ID = string(id)
	account.Passkey = &identity.Authenticator{Name: s.passkeyName(r, created), Passkey: &created.Passkey}
	*proved = passkeyProof(now, "", &created.Passkey, created.UserVerified)
	return nil, nil
}

// createAccount checks the code, if one is required, and creates the account. What costs no
// attempt is checked first.
func (s *session) createAccount(r *http.Request, now time.Time, v signUpView, account identity.NewAccount) (*identity.User, error) {
	code := r.PostForm.Get("code")
	// A password that is not allowed costs no attempt.
	chosen := &identity.User{Username: account.Username}
	if err := cmp.Or(identity.CheckPassword(account.Password, chosen), s.config.Accounts.CheckLength(account.Password, chosen)); err != nil && account.Passkey == nil && (v.Request != "" || v.Token != "") {
		return nil, err
	}
	if v.Email != "" && account.Proof == nil && v.Request == "" && s.config.Accounts.CanMail() {
		if _, err := mail.ParseAddress(v.Email); err != nil {
			return nil, &identity.InvalidUserError{Reason: err}
		}
	}
	switch {
	case account.Proof == nil && s.config.SignUpRequires == SignUpEmailDomain:
		proof, err := s.config.Accounts.ProofByCode(r.Context(), now, identity.PurposeSignUp, identity.BrowserCookie(r, s.config.Issuer), v.Request, code)
		if err != nil {
			return nil, err
		}
		account.Proof = proof
	case v.Token != "" && v.Invitation == "" && !account.Proof.SameBrowser:
		if err := s.config.Accounts.CheckCode(r.Context(), now, account.Proof, code); err != nil {
			return nil, err
		}
	}
	if v.Invitation == "" && account.Proof != nil && !slices.Contains(s.config.SignUpEmailDomains, mail.Domain(account.Proof.Email)) {
		return nil, identity.ErrProofOver // the setting has changed since
	}
	return s.config.Accounts.SignUp(r.Context(), now, account)
}

// refusal sets the message for a user that could not be created; known is false for an
// internal error.
func (v *signUpView) refusal(err error) (a pageResponse, known bool) {
	if errors.Is(err, identity.ErrWrongCode) {
		v.Alert, v.CodeBad = wrongCode(), true
		return pageResponse{status: http.StatusForbidden}, true
	}
	return v.newPersonView.refusal(err)
}

func (v *newPersonView) refusal(err error) (a pageResponse, known bool) {
	weak, isWeak := errors.AsType[*identity.WeakPasswordError](err)
	invalid, isInvalid := errors.AsType[*identity.InvalidUserError](err)
	switch {
	case isWeak:
		v.Alert, v.NewBad = weakText(weak), true
	case isInvalid:
		v.Alert, v.NameBad = invalidText(invalid), true
	case errors.Is(err, identity.ErrIdentifierTaken):
		v.Alert, v.NameBad = text("alert.username-taken"), true
	default:
		return signInRefusal(err, &v.Alert)
	}
	return pageResponse{status: http.StatusBadRequest}, true
}

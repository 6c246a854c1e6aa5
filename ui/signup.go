package ui

import (
	"errors"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/identity"
)

// SignUpPath is the path of the page where users create their own accounts, below the issuer.
const SignUpPath = "/sign-up"

type signUpView struct {
	waiting
	ClientName string
	newPersonView
	SignIn string // URL of the sign-in page
}

// newPersonView is the data that forms that create a user have in common.
type newPersonView struct {
	Username, Email string
	Alert           string
	NameBad, NewBad bool
}

// showSignUp shows the page where users create their own accounts, if the operator allows it.
// An application can send them there (prompt=create, Initiating User Registration via OpenID
// Connect).
func (s *session) showSignUp(w http.ResponseWriter, r *http.Request) error {
	return s.writeSignUp(w, r, newPersonView{}, pageResponse{})
}

func (s *session) writeSignUp(w http.ResponseWriter, r *http.Request, p newPersonView, a pageResponse) error {
	if !s.config.SignUp {
		s.NotFound(w, r)
		return nil
	}
	in, ok := s.interaction(w, r)
	if !ok {
		return nil
	}
	v := signUpView{waiting: waitingFor(in), newPersonView: p}
	if in != nil {
		a.formAction = in.FormAction
		if in.Client != nil {
			v.ClientName = clientOf(r, in)
		}
	}
	v.SignIn = s.base + "/sign-in" + v.query()
	a.template, a.title, a.data = "sign-up", "Create an account", v
	return s.write(w, a)
}

func (s *session) signUp(w http.ResponseWriter, r *http.Request) error {
	if !s.config.SignUp {
		s.NotFound(w, r)
		return nil
	}
	in, ok := s.interaction(w, r)
	if !ok {
		return nil
	}
	now := time.Now()
	p := newPersonView{Username: r.PostForm.Get("username"), Email: r.PostForm.Get("email")}
	user, err := s.config.Accounts.SignUp(r.Context(), now, s.config.RemoteAddr(r), p.Username, p.Email, r.PostForm.Get("password"))
	if err != nil {
		a, known := p.refusal(err)
		if !known {
			return err
		}
		return s.writeSignUp(w, r, p, a)
	}
	began, err := s.begin(w, r, now, user)
	if err != nil {
		return err
	}
	if in != nil {
		s.server.Authenticated(w, r, in.ID, authentication(began))
		return nil
	}
	return s.notify(w, "welcome")
}

// refusal sets the message for a user that could not be created; known is false for an
// internal error.
func (v *newPersonView) refusal(err error) (a pageResponse, known bool) {
	weak, isWeak := errors.AsType[*identity.WeakPasswordError](err)
	invalid, isInvalid := errors.AsType[*identity.InvalidUserError](err)
	switch {
	case isWeak:
		v.Alert, v.NewBad = weak.Reason, true
	case isInvalid:
		v.Alert, v.NameBad = sentence(invalid.Error()), true
	case errors.Is(err, identity.ErrIdentifierTaken):
		v.Alert, v.NameBad = "That username or email address is already taken.", true
	default:
		return signInRefusal(err, &v.Alert)
	}
	return pageResponse{status: http.StatusBadRequest}, true
}

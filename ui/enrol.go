package ui

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
)

// A user who needs a second factor and has none sets it up while signing in. Until that is done, the
// session is for that alone: the engine and all other pages treat the user as not signed in.

// enrolPath is the page that lists what such a user can set up.
const enrolPath = "/sign-in/enrol"

// enrolPages lists the pages on which users set up a method, in the order in which they are offered.
var enrolPages = []methodPage{
	{identity.MethodPasskey, passkeysPath, text("passkey.add"), text("passkey.hint")},
	{identity.MethodTOTP, newTOTPPath, text("method.totp"), nil},
}

// enrolmentPage reports whether a session that may only set up a method may use a page.
func enrolmentPage(path string) bool {
	return path == enrolPath || path == passkeyOptionsPath || slices.ContainsFunc(enrolPages, func(p methodPage) bool { return path == p.path })
}

// enrolable returns the pages of the methods that a user can set up to reach what a sign-in needs.
func (s *session) enrolable(at *signingIn) []methodPage {
	if s.config.Accounts.Policy().NoEnrolment && !at.user.MustEnrol() && !at.user.Recovering() || identity.Reached(at.proofs) == "" {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(enrolPages), func(page methodPage) bool {
		if page.method == identity.MethodPasskey && (s.config.Passkeys == nil || !at.user.CanHavePasskeys()) {
			return true
		}
		proof := identity.ProvedMethod{Method: page.method, UserVerified: page.method == identity.MethodPasskey}
		return !identity.Reached(identity.MergeProofs(at.proofs, proof)).Includes(at.need.class)
	})
}

// enrolmentRecent is how long after the first factor a user may set up a second one. After that, the
// session could be someone else's.
const enrolmentRecent = 10 * time.Minute

// startEnrolment starts a session in which the user can only set up a method.
func (s *session) startEnrolment(w http.ResponseWriter, r *http.Request, at *signingIn) error {
	now := time.Now()
	recent := identity.Since(at.proofs, now.Add(-enrolmentRecent))
	if identity.Reached(recent) == "" {
		waits := waitingParams(r)
		return s.redirect(w, waits.with("/sign-in", "another", "1"))
	}
	if at.progress != nil {
		if err := s.config.Accounts.FinishSignIn(r.Context(), now, at.progress); err != nil {
			return s.signInAgain(w, r)
		}
		identity.ClearSignInCookie(w, s.config.Issuer)
	}
	s.enrolFor = "?" + strings.TrimPrefix(waitingParams(r).query(), "?")
	if _, _, err := s.begin(w, r, now, at.user, recent); err != nil {
		return err
	}
	return s.redirect(w, enrolPath)
}

// recovered starts a session for a user who got back in with a message and a recovery code. The user can
// only set up another second factor in it; then the sign-in continues. Everything else has ended.
func (s *session) recovered(w http.ResponseWriter, r *http.Request, now time.Time, user *identity.User, proofs []identity.ProvedMethod) error {
	err := s.config.Accounts.RecoverWithCode(r.Context(), now, user, s.activity(r))
	if errors.Is(err, identity.ErrSignInOver) {
		return s.signInAgain(w, r)
	}
	if err != nil {
		return err
	}
	s.server.SessionsEnded()
	s.who, s.enrolling = nil, nil
	proofs = slices.Clone(proofs)
	for i := range proofs {
		if proofs[i].At.Before(user.EndedAt) { // only this session outlives the end
			proofs[i].At = user.EndedAt
		}
	}
	s.enrolFor = "?" + strings.TrimPrefix(waitingParams(r).query(), "?")
	_, _, err = s.begin(w, r, now, user, proofs)
	if errors.Is(err, identity.ErrWrongCredentials) { // disabled, or everything ended again, at this moment
		return s.signInAgain(w, r)
	}
	if err != nil {
		return err
	}
	return s.redirect(w, enrolPath)
}

type enrolView struct {
	waiting
	Username string
	Choices  []factorChoice
}

func (s *session) showEnrol(w http.ResponseWriter, r *http.Request) error {
	if s.who == nil || s.who.Enrolling == "" {
		return s.redirect(w, "/sign-in")
	}
	in := s.enrolsFor(r)
	at, err := s.signInOf(r, in, s.who.User, nil)
	if err != nil {
		return err
	}
	v := enrolView{waiting: waitingFor(in), Username: at.user.Username}
	for _, page := range s.enrolable(at) {
		v.Choices = append(v.Choices, factorChoice{page.name, page.detail, s.base + page.path})
	}
	return s.write(w, pageResponse{template: "enrol", title: text("enrol.title"), data: v})
}

// enrolsFor returns the interaction that continues when a user has set up a method; nil if there is
// none, or if it has expired.
func (s *session) enrolsFor(r *http.Request) *authserver.Interaction {
	query, err := url.ParseQuery(strings.TrimPrefix(s.who.Enrolling, "?"))
	if err != nil || query.Get("interaction") == "" {
		return nil
	}
	in, err := s.server.Interaction(r, query.Get("interaction"))
	if err != nil {
		return nil
	}
	return in
}

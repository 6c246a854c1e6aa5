package ui

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
)

// need is what a sign-in must reach.
type need struct {
	class identity.Class
	// since is the time before which proofs do not count; zero if all count.
	since time.Time
}

// needFor returns what a user must prove in the interaction of a request, to confirm a change of the
// account, or to sign in to the account page.
func (s *session) needFor(r *http.Request, now time.Time, user *identity.User) need {
	n := need{class: identity.ClassOneFactor}
	if user.NeedsSecondFactor() {
		n.class = identity.ClassTwoFactors
	}
	if returnPath(r) != "" {
		n.since = identity.RecentProofSince(now)
		if class := user.RecentProofClass(); class.Includes(n.class) {
			n.class = class
		}
	}
	return n
}

// signingIn is the sign-in of this browser, as far as it has come.
type signingIn struct {
	user *identity.User
	need need
	// proofs are those that count.
	proofs   []identity.ProvedMethod
	progress *identity.SignInProgress // nil if there is none
}

// progress returns the sign-in in progress of this browser; nil if there is none.
func (s *session) progress(r *http.Request) (*identity.SignInProgress, error) {
	p, err := s.config.Accounts.SignInProgress(r.Context(), time.Now(), identity.SignInCookie(r, s.config.Issuer))
	if errors.Is(err, identity.ErrSignInOver) {
		return nil, nil
	}
	return p, err
}

// signingIn returns the sign-in of a user in this browser: the user of the sign-in in progress, or the
// one who is signed in and must prove more. It is nil if there is no user.
func (s *session) signingIn(r *http.Request) (*signingIn, error) {
	p, err := s.progress(r)
	if err != nil {
		return nil, err
	}
	switch {
	case s.who != nil && (p == nil || returnPath(r) != ""):
		return s.signInOf(r, s.who.User, p), nil
	case p != nil:
		return s.signInOf(r, p.User, p), nil
	}
	return nil, nil
}

// signInOf returns the sign-in of a user, to which proofs of the session and of the sign-in in progress
// belong if they are of the same user.
func (s *session) signInOf(r *http.Request, user *identity.User, p *identity.SignInProgress) *signingIn {
	now := time.Now()
	in := &signingIn{user: user, need: s.needFor(r, now, user)}
	var proofs []identity.ProvedMethod
	if s.who != nil && s.who.User.ID == user.ID {
		proofs = identity.MergeProofs(proofs, s.who.Proofs...)
	}
	if p != nil && p.User.ID == user.ID {
		in.progress = p
		proofs = identity.MergeProofs(proofs, p.Proofs...)
	}
	in.proofs = identity.Since(proofs, in.need.since)
	return in
}

// proved adds a method to the sign-in of this browser. It starts the session and continues the
// interaction if that is sufficient, or else redirects to the page for what is missing. Every page that
// has verified a method calls it, and does nothing else.
func (s *session) proved(w http.ResponseWriter, r *http.Request, in *authserver.Interaction, user *identity.User, proof identity.ProvedMethod) error {
	now := time.Now()
	p, err := s.progress(r)
	if err != nil {
		return err
	}
	at := s.signInOf(r, user, p)
	counts := identity.MergeProofs(at.proofs, proof)
	if !identity.Reached(counts).Includes(at.need.class) {
		return s.askForMore(w, r, at, proof)
	}
	if at.progress != nil {
		err := s.config.Accounts.FinishSignIn(r.Context(), now, at.progress)
		if errors.Is(err, identity.ErrSignInOver) {
			return s.signInAgain(w, r)
		}
		if err != nil {
			return err
		}
	}
	if identity.SignInCookie(r, s.config.Issuer) != "" {
		identity.ClearSignInCookie(w, s.config.Issuer)
	}
	began, newDevice, err := s.begin(w, r, now, user, counts)
	if errors.Is(err, identity.ErrWrongCredentials) { // disabled, or everything ended, at this moment
		return s.signInAgain(w, r)
	}
	if err != nil {
		return err
	}
	if len(counts) > 1 || proof.Method != identity.MethodPassword {
		s.config.Accounts.SignInCompleted(r.Context(), now, user, s.config.RemoteAddr(r))
	}
	if newDevice && !s.justCreated {
		s.config.Accounts.NewSignIn(r.Context(), now, user, s.activity(r))
	}
	if user.BeingDeleted() {
		return s.redirect(w, restorePath+waitingFor(in).query())
	}
	if path := returnPath(r); path != "" {
		return s.redirect(w, path)
	}
	if s.then != "" {
		return s.redirect(w, s.then+waitingFor(in).query())
	}
	if s.offersUpgrade(r, user, counts) {
		return s.redirect(w, upgradePath+waitingFor(in).query())
	}
	if in != nil {
		s.server.Authenticated(w, r, in.ID, authentication(began))
		return nil
	}
	return s.redirect(w, "/account?"+signedInParam+"=1")
}

// askForMore keeps what was proved, and redirects to the page that asks for more.
func (s *session) askForMore(w http.ResponseWriter, r *http.Request, at *signingIn, proof identity.ProvedMethod) error {
	var proofs []identity.ProvedMethod
	if at.progress != nil {
		proofs = at.progress.Proofs
	}
	secret, err := s.config.Accounts.ContinueSignIn(r.Context(), time.Now(), at.user, identity.MergeProofs(proofs, proof), at.progress)
	if errors.Is(err, identity.ErrSignInOver) {
		return s.signInAgain(w, r)
	}
	if err != nil {
		return err
	}
	identity.SetSignInCookie(w, s.config.Issuer, secret)
	return s.redirect(w, factorPath+waitingParams(r).query())
}

// signInAgain redirects to the first page of a sign-in.
func (s *session) signInAgain(w http.ResponseWriter, r *http.Request) error {
	waits := waitingParams(r)
	if waits.Return != "" {
		return s.redirect(w, confirmPath+waits.query())
	}
	return s.redirect(w, "/sign-in"+waits.query())
}

// begin starts a new session for the browser, which replaces the one that it had, and remembers the
// device. newDevice reports whether the user has not signed in on it before.
func (s *session) begin(w http.ResponseWriter, r *http.Request, now time.Time, user *identity.User, proofs []identity.ProvedMethod) (began *identity.Session, newDevice bool, err error) {
	ctx := r.Context()
	details := identity.SessionDetails{
		AuthTime: identity.AuthTime(proofs), AMR: identity.AMR(proofs), ACR: string(identity.Reached(proofs)), Proofs: proofs,
		UserAgent: r.UserAgent(), Remote: s.config.RemoteAddr(r),
	}
	if s.who != nil && s.who.User.ID == user.ID {
		details.Proofs = identity.MergeProofs(s.who.Proofs, proofs...)
	}
	secret, began, err := s.config.Accounts.StartSession(ctx, now, user, details, s.who)
	if err != nil {
		return nil, false, err
	}
	s.secret = secret
	identity.SetSessionCookie(w, s.config.Issuer, secret)
	newDevice, err = s.remember(r, w, now, user)
	return began, newDevice, err
}

// remember remembers the device, and reports whether the user has not signed in on it before.
func (s *session) remember(r *http.Request, w http.ResponseWriter, now time.Time, user *identity.User) (newDevice bool, err error) {
	before := identity.DeviceCookie(r, s.config.Issuer)
	device, err := s.config.Accounts.RememberDevice(r.Context(), now, user.ID, before)
	if err != nil {
		return false, fmt.Errorf("remember the device: %w", err)
	}
	identity.SetDeviceCookie(w, s.config.Issuer, device)
	return device != before, nil
}

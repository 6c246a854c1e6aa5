package ui

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
)

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
	if id := param(r, "interaction"); s.waits == nil && id != "" {
		// If the interaction has expired, the page says so when the user continues.
		if in, err := s.server.Interaction(r, id); err == nil {
			s.waits = in
		}
	}
	switch {
	case s.who != nil && (p == nil || returnPath(r) != ""):
		return s.signInOf(r, s.waits, s.who.User, p)
	case p != nil:
		return s.signInOf(r, s.waits, p.User, p)
	case s.enrolling != nil:
		return s.signInOf(r, s.waits, s.enrolling.User, nil)
	}
	return nil, nil
}

// signInOf returns the sign-in of a user, to which proofs of the session and of the sign-in in progress
// belong if they are of the same user.
func (s *session) signInOf(r *http.Request, in *authserver.Interaction, user *identity.User, p *identity.SignInProgress) (*signingIn, error) {
	now := time.Now()
	at := &signingIn{user: user, need: s.needFor(r, in, now, user)}
	var proofs []identity.ProvedMethod
	if who := s.anySession(); who != nil && who.User.ID == user.ID {
		proofs = identity.MergeProofs(proofs, who.Proofs...)
	}
	if p != nil && p.User.ID == user.ID {
		at.progress = p
		proofs = identity.MergeProofs(proofs, p.Proofs...)
	}
	at.proofs = identity.Since(proofs, at.need.since)
	if returnPath(r) != "" {
		at.proofs = identity.Active(at.proofs)
		return at, nil
	}
	remembered, err := s.config.Accounts.FactorRemembered(r.Context(), now, user, identity.FactorCookie(r, s.config.Issuer))
	if err != nil {
		return nil, err
	}
	if remembered && user.Reachable().Includes(identity.ClassTwoFactors) {
		at.proofs = identity.MergeProofs(at.proofs, identity.ProvedMethod{Method: identity.MethodRemembered, At: now})
	}
	return at, nil
}

// anySession returns the session of the browser, even if it is only for setting up a method.
func (s *session) anySession() *identity.Session {
	if s.who != nil {
		return s.who
	}
	return s.enrolling
}

// proved adds a method to the sign-in of this browser. It starts the session and continues the
// interaction if that is sufficient, or else redirects to the page for what is missing. Every page that
// has verified a method calls it, and does nothing else.
func (s *session) proved(w http.ResponseWriter, r *http.Request, in *authserver.Interaction, user *identity.User, proof identity.ProvedMethod) error {
	now := time.Now()
	if in == nil && s.who != nil && s.who.Enrolling != "" { // the user has just set up a method
		in = s.enrolsFor(r)
	}
	if s.keptOut(r, user, proof) {
		at, _ := s.directoryOf(user)
		view := providerView{ID: at.ID(), Name: cleanName(at.Name())}
		return s.externalFailed(w, r, view, purposeSignIn, waitingParams(r), &identity.RefusedError{})
	}
	p, err := s.progress(r)
	if err != nil {
		return err
	}
	at, err := s.signInOf(r, in, user, p)
	if err != nil {
		return err
	}
	counts := identity.MergeProofs(at.proofs, proof)
	external, err := s.config.Accounts.ExternalSessions(r.Context(), now, counts)
	if err != nil {
		return err
	}
	if counts = external.Live; !slices.ContainsFunc(counts, func(p identity.ProvedMethod) bool { return p.Method == proof.Method && p.At.Equal(proof.At) }) {
		return s.signInAgain(w, r) // the provider has just ended its session
	}
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
	if user.RecoveredBy(counts) {
		return s.recovered(w, r, now, user, counts)
	}
	if user.Recovering() && identity.Reached(counts).Includes(identity.ClassTwoFactors) {
		if err := s.config.Accounts.RecoveryOver(r.Context(), user.ID); err != nil {
			return err
		}
	}
	began, newDevice, err := s.begin(w, r, now, user, counts)
	if errors.Is(err, identity.ErrWrongCredentials) { // disabled, or everything ended, at this moment
		return s.signInAgain(w, r)
	}
	if err != nil {
		return err
	}
	for _, proved := range counts {
		s.events.Telemetry().SignedIn(string(proved.Method))
	}
	if err := s.rememberFactor(w, r, now, user, proof); err != nil {
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
	if in != nil && s.then == recoveryCodesPath {
		s.then = fewCodesPath // it continues with the interaction
	}
	if s.then != "" {
		return s.redirect(w, s.then+waitingFor(in).query())
	}
	if user.Account.Recovery != nil {
		return s.redirect(w, pendingRecoveryPath+waitingFor(in).query())
	}
	if s.offersUpgrade(r, user, counts) {
		return s.redirect(w, upgradePath+waitingFor(in).query())
	}
	if in != nil {
		s.server.Authenticated(w, r, in.ID, authentication(began))
		return nil
	}
	if s.justCreated {
		return s.notify(w, "welcome")
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

// rememberParam is the field of a form with which a user chooses not to be asked for a second factor on
// this device for a while.
const rememberParam = "remember-device"

// rememberFactor remembers the second factor that a user has just proved, if the user chose that.
func (s *session) rememberFactor(w http.ResponseWriter, r *http.Request, now time.Time, user *identity.User, proof identity.ProvedMethod) error {
	if s.config.Accounts.Policy().RememberSecondFactor <= 0 || !r.PostForm.Has(rememberParam) || !proof.Method.SecondFactor() || returnPath(r) != "" {
		return nil
	}
	secret, err := s.config.Accounts.RememberFactor(r.Context(), now, user)
	if err != nil {
		return err
	}
	identity.SetFactorCookie(w, s.config.Issuer, secret, s.config.Accounts.Policy().RememberSecondFactor)
	return nil
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
	details.Enrolling = s.enrolFor
	old := s.anySession()
	if old != nil && old.User.ID == user.ID {
		details.Proofs = identity.MergeProofs(old.Proofs, proofs...)
	}
	external, err := s.config.Accounts.ExternalSessions(ctx, now, details.Proofs)
	if err != nil {
		return nil, false, err
	}
	details.Proofs, details.NotAfter = external.Live, external.Expires
	if len(external.Sessions) > 0 {
		details.SignedInAt = now
	}
	secret, began, err := s.config.Accounts.StartSession(ctx, now, user, details, old)
	if err != nil {
		return nil, false, err
	}
	if len(external.Sessions) > 0 { // a provider may have ended its session in the meantime
		again, err := s.config.Accounts.ExternalSessions(ctx, now, details.Proofs)
		if err != nil {
			return nil, false, err
		}
		if len(again.Live) != len(details.Proofs) {
			return nil, false, errors.Join(identity.ErrWrongCredentials, s.config.Accounts.EndSession(ctx, now, began.ID))
		}
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

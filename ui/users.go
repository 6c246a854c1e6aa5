package ui

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/identity/directory"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
)

// ACRPassword is the authentication context class of a sign-in with a password alone.
const ACRPassword = string(identity.ClassOneFactor)

var (
	_ authserver.Users        = (*UI)(nil)
	_ authserver.SignInPolicy = (*UI)(nil)
)

// SignedIn returns the user who is signed in at the browser that sent r; nil if there is none.
func (u *UI) SignedIn(r *http.Request) (*authserver.Authentication, error) {
	s, err := u.config.Accounts.SignedIn(r.Context(), time.Now(), identity.SessionCookie(r, u.config.Issuer))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if s.Enrolling != "" {
		return nil, nil
	}
	u.config.Accounts.Used(time.Now(), s, u.config.RemoteAddr(r))
	identify(r, s.User)
	a := authentication(s)
	return &a, nil
}

func authentication(s *identity.Session) authserver.Authentication {
	return authserver.Authentication{
		Subject: s.User.ID, Time: s.AuthTime, ACR: s.ACR, AMR: s.AMR,
		SignedInAt: s.SignedInAt, Session: s.ID, FormerSessions: s.Former(), SessionExpires: s.Expires, BrowserState: identity.BrowserState(s.ID),
	}
}

// signedIn returns the sign-in session of the browser that sent r; nil if there is none.
func (u *UI) signedIn(r *http.Request) (*identity.Session, error) {
	s, err := u.config.Accounts.Session(r.Context(), time.Now(), identity.SessionCookie(r, u.config.Issuer))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err == nil {
		identify(r, s.User)
	}
	return s, err
}

// identify says in the audit log who sends a request.
func identify(r *http.Request, user *identity.User) {
	audit.Identify(r.Context(), audit.Actor{Kind: audit.KindUser, ID: user.ID, Name: user.Username})
}

// SessionActive reports whether a sign-in session is still active.
func (u *UI) SessionActive(ctx context.Context, session string) (bool, error) {
	return u.config.Accounts.SessionActive(ctx, time.Now(), session)
}

// SessionKey returns the key of a session's ticket.
func (u *UI) SessionKey(session string) (storage.Key, bool) { return identity.SessionKey(session) }

// SessionTicketActive is SessionActive for a session's ticket that was just read.
func (u *UI) SessionTicketActive(ctx context.Context, ticket storage.Ticket) (bool, error) {
	return u.config.Accounts.SessionTicketActive(ctx, time.Now(), ticket)
}

// EndedSessions returns sessions that have ended and have not been passed to ForgetEnded yet.
func (u *UI) EndedSessions(ctx context.Context, limit int) ([]authserver.EndedSession, error) {
	sessions, err := u.config.Accounts.EndedSessions(ctx, time.Now(), limit)
	var ended []authserver.EndedSession
	for _, s := range sessions {
		ended = append(ended, authserver.EndedSession{Subject: s.UserID, Names: s.Names})
	}
	return ended, err
}

// ForgetEnded forgets ended sessions.
func (u *UI) ForgetEnded(ctx context.Context, ended []authserver.EndedSession) error {
	var sessions []identity.EndedSession
	for _, s := range ended {
		sessions = append(sessions, identity.EndedSession{UserID: s.Subject, Names: s.Names})
	}
	return u.config.Accounts.ForgetEnded(ctx, sessions)
}

// CheckPassword authenticates a username and password, of this server or of a directory, under the same
// limits as the sign-in page. It does not start a session.
func (u *UI) CheckPassword(r *http.Request, username, password string) (*authserver.Authentication, error) {
	if u.config.NoPasswords {
		return nil, authserver.ErrWrongPassword
	}
	now := time.Now()
	attempt := identity.Attempt{Identifier: username, Password: password, Remote: u.config.RemoteAddr(r), Alone: true}
	if u.config.Upstream.ForIdentifier(username) == nil { // the password of another provider is not for a directory
		directories, only := u.config.Directories.ForIdentifier(username)
		attempt.Directories, attempt.DirectoryOnly = directory.Users(directories, username), only
	}
	user, external, err := u.config.Accounts.SignInWithPassword(r.Context(), now, attempt)
	if throttled, ok := errors.AsType[*identity.ThrottledError](err); ok {
		return nil, &authserver.TryLaterError{After: throttled.RetryAfter}
	}
	_, refused := errors.AsType[*identity.RefusedError](err)
	_, refusedThere := errors.AsType[*identity.DirectoryRefusedError](err)
	_, linkNeeded := errors.AsType[*identity.LinkNeededError](err)
	switch {
	case errors.Is(err, identity.ErrBusy), errors.Is(err, identity.ErrDirectoryUnavailable):
		return nil, &authserver.TryLaterError{After: identity.BusyRetryAfter}
	case errors.Is(err, identity.ErrWrongCredentials), errors.Is(err, identity.ErrPasswordTooLong),
		errors.Is(err, identity.ErrNoAccount), refused, refusedThere, linkNeeded: // the sign-in page says which one
		return nil, authserver.ErrWrongPassword
	case err != nil:
		return nil, err
	case !user.Active(): // the account is being deleted
		return nil, authserver.ErrWrongPassword
	}
	method := identity.MethodPassword
	if external != nil {
		method = identity.MethodUpstream
	}
	u.events.Telemetry().SignedIn(string(method))
	return &authserver.Authentication{Subject: user.ID, Time: now, ACR: ACRPassword, AMR: []string{"pwd"}}, nil
}

// CheckUserCode reports whether a user has set a user code, and whether a code is that one.
func (u *UI) CheckUserCode(ctx context.Context, subject, client, code string) (set, correct bool, err error) {
	set, correct, err = u.config.Accounts.CheckUserCode(ctx, subject, client, code)
	if errors.Is(err, identity.ErrBusy) {
		return false, false, &authserver.TryLaterError{After: identity.BusyRetryAfter}
	}
	return set, correct, err
}

// RequiredACR returns the class that a user needs for a request (authserver.SignInPolicy).
func (u *UI) RequiredACR(ctx context.Context, r authserver.SignInRequest) (string, error) {
	policy := u.config.Accounts.Policy()
	if len(policy.Rules) == 0 {
		return "", nil
	}
	user, err := u.config.Accounts.CachedUser(ctx, r.Subject)
	if errors.Is(err, storage.ErrNotFound) {
		return "", nil // the engine finds that out itself
	}
	if err != nil {
		return "", err
	}
	return string(policy.Required(user, r.Client.ID, r.Scope)), nil
}

// ReachableACR returns the strongest class that a user can reach (authserver.SignInPolicy).
func (u *UI) ReachableACR(ctx context.Context, subject string) (string, error) {
	user, err := u.config.Accounts.User(ctx, subject)
	if errors.Is(err, storage.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return string(user.Reachable()), nil
}

// ACRValues are the classes that sign-in can reach, weakest first, for authserver.SignInSettings.
func (u *UI) ACRValues() []string {
	values := []string{string(identity.ClassOneFactor)}
	for _, page := range methodPages {
		if page.method == identity.MethodPasskey && u.config.Passkeys == nil {
			continue
		}
		proofs := []identity.ProvedMethod{{Method: identity.MethodPassword}, {Method: page.method, UserVerified: true}}
		if reached := string(identity.Reached(proofs)); !slices.Contains(values, reached) {
			values = append(values, reached)
		}
	}
	slices.SortFunc(values, func(a, b string) int {
		return cmp.Compare(slices.Index(identity.Classes, identity.Class(a)), slices.Index(identity.Classes, identity.Class(b)))
	})
	return values
}

// SignOut ends the sign-in session of the browser that sent r, if there is one.
func (u *UI) SignOut(w http.ResponseWriter, r *http.Request) error {
	s, err := u.signedIn(r)
	if err != nil {
		return fmt.Errorf("sign out: %w", err)
	}
	identity.ClearSessionCookie(w, u.config.Issuer)
	if s == nil {
		return nil
	}
	return u.config.Accounts.EndSession(r.Context(), time.Now(), s.ID)
}

// FindSubject returns the subject of the user with an email address or subject identifier;
// storage.ErrNotFound if there is none.
func (u *UI) FindSubject(ctx context.Context, id oauth.SubjectIdentifier) (string, error) {
	var user *identity.User
	err := storage.ErrNotFound
	switch id.Format {
	case oauth.SubjectFormatEmail:
		user, err = u.config.Accounts.FindAny(ctx, id.Email)
	case oauth.SubjectFormatOpaque:
		user, err = u.config.Accounts.AnyUser(ctx, id.ID)
	}
	if err != nil {
		return "", err
	}
	return user.ID, nil
}

// EndSessions ends all sign-in sessions of a user.
func (u *UI) EndSessions(ctx context.Context, subject string) error {
	return u.config.Accounts.EndSessions(ctx, time.Now(), subject)
}

// SubjectActive reports whether a token that was issued for a user at a time, in a session, is
// still valid.
func (u *UI) SubjectActive(ctx context.Context, subject, session string, issued time.Time) (bool, error) {
	return u.config.Accounts.Valid(ctx, subject, session, issued)
}

// Claims returns all claims about a subject; storage.ErrNotFound if the user does not exist or
// is disabled.
func (u *UI) Claims(ctx context.Context, subject string) (oauth.Claims, error) {
	user, err := u.config.Accounts.CachedUser(ctx, subject) // a copy
	if err != nil {
		return nil, err
	}
	claims := oauth.Claims(user.Claims)
	if claims == nil {
		claims = oauth.Claims{}
	}
	if len(user.External) > 0 || claims["groups"] != nil {
		claims = user.AllClaims()
	}
	for _, name := range oauth.ProtocolClaims {
		delete(claims, name)
	}
	claims["sub"] = user.ID
	claims["preferred_username"] = user.Username
	if !user.UpdatedAt.IsZero() {
		claims["updated_at"] = user.UpdatedAt.Unix()
	}
	return claims, nil
}

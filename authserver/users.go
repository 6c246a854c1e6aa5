package authserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

// Users is how the engine learns about users and their sign-in sessions. The package ui
// implements it over the package identity. Other implementations bring their own user
// database and pages.
//
// All methods must be safe for concurrent use. Any error that is not documented here is a
// fault: it is logged, and the request fails.
type Users interface {
	// SignedIn returns who is signed in at the browser that sent r; nil if nobody is.
	SignedIn(r *http.Request) (*Authentication, error)

	// SignOut ends the sign-in session of the browser that sent r, if there is one, and
	// removes its cookie. It is called before the response is written.
	SignOut(w http.ResponseWriter, r *http.Request) error

	// SessionActive reports whether a sign-in session (Authentication.Session) has neither
	// ended nor expired. Refresh tokens without offline_access end with their session.
	SessionActive(ctx context.Context, session string) (bool, error)

	// EndSessions ends all sign-in sessions of a user.
	EndSessions(ctx context.Context, subject string) error

	// EndedSessions returns at most limit sign-in sessions that were ended and not forgotten
	// since. The operation that ends a session also notes it here, so that a crash loses no
	// logout. Several nodes may get the same sessions at the same time.
	EndedSessions(ctx context.Context, limit int) ([]EndedSession, error)

	// ForgetEnded forgets ended sessions, once messages to their clients are stored. Sessions
	// that are forgotten already are ignored.
	ForgetEnded(ctx context.Context, ended []EndedSession) error

	// CheckPassword authenticates a username and password for the password grant and for
	// first-party applications. It limits attempts like the sign-in page and reveals no more
	// than that. It returns ErrWrongPassword, also if the account needs more than a password
	// or passwords are not accepted at all, or a *TryLaterError. No session begins.
	CheckPassword(r *http.Request, username, password string) (*Authentication, error)

	// Claims returns all claims about a user, or storage.ErrNotFound if the user is gone or
	// disabled: then their codes and refresh tokens are refused. The engine does not change
	// the map.
	Claims(ctx context.Context, subject string) (oauth.Claims, error)

	// SubjectActive reports whether what was issued for a user is still valid. It is false if
	// the user is gone or disabled, or if everything that had been issued to them was ended
	// since. session is the sign-in session in which it was issued; "" if there was none.
	SubjectActive(ctx context.Context, subject, session string, issued time.Time) (bool, error)

	// FindSubject returns the subject of a user, disabled or not, or storage.ErrNotFound. id
	// has the format email, for any name that the user signs in with; opaque, for a subject;
	// or iss_sub, for the subject of another issuer.
	FindSubject(ctx context.Context, id oauth.SubjectIdentifier) (string, error)
}

// Authentication is how and when a user signed in.
type Authentication struct {
	Subject string
	Time    time.Time
	ACR     string
	AMR     []string // RFC 8176
	// Session is the public name of the sign-in session, the sid of OpenID Connect.
	Session string
	// FormerSessions are the names that the session had before the user signed in again.
	FormerSessions []string
	// SessionExpires is when the session expires.
	SessionExpires time.Time
	// BrowserState changes when a user signs in or out at the browser (OpenID Connect Session
	// Management, section 3.2).
	BrowserState string
}

// EndedSession is a sign-in session that was ended.
type EndedSession struct {
	Subject string
	// Names are its public names, the last one first.
	Names []string
}

// ErrWrongPassword is returned by Users.CheckPassword if the username or the password is
// wrong, or if the account cannot use a password alone.
var ErrWrongPassword = errors.New("authserver: wrong username or password")

// TryLaterError is returned by Users.CheckPassword for an attempt that was not checked: there
// were too many, or the server is overloaded.
type TryLaterError struct{ After time.Duration }

func (e *TryLaterError) Error() string {
	return fmt.Sprintf("authserver: too many attempts; try again in %v", e.After)
}

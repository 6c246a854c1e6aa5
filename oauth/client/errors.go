package client

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

// What can be wrong with a provider, a callback or an answer. The errors that functions
// return wrap these and say more; ask with errors.Is.
var (
	// ErrMetadata says that a provider's metadata cannot be used.
	ErrMetadata = errors.New("client: the provider's metadata cannot be used")
	// ErrState says that a callback does not belong to the transaction: the browser
	// began elsewhere, or somebody forged the request (RFC 6749, section 10.12).
	ErrState = errors.New("client: the callback does not belong to this sign-in")
	// ErrTransaction says that the transaction has expired or was used before.
	ErrTransaction = errors.New("client: the sign-in has expired or was finished before")
	// ErrMixUp says that another provider answered than the one that was asked
	// (RFC 9207, section 2.4).
	ErrMixUp = errors.New("client: the callback comes from another provider")
	// ErrCallback says that a callback is malformed.
	ErrCallback = errors.New("client: the callback is malformed")
	// ErrAnswer says that an endpoint answered with something other than its standard
	// prescribes.
	ErrAnswer = errors.New("client: the provider's answer cannot be used")
	// ErrIDToken says that an ID token failed a check of OpenID Connect Core.
	ErrIDToken = errors.New("client: the ID token is not valid")
	// ErrSubject says that UserInfo spoke of another person than the ID token.
	ErrSubject = errors.New("client: UserInfo is about somebody else")
	// ErrSignInAgain says that the tokens cannot be renewed: there is no refresh token, or
	// the provider takes it no more. Only a new sign-in helps.
	ErrSignInAgain = errors.New("client: the person must sign in again")
	// ErrRefused is for RelyingPartyConfig.OnSignIn: the end user may not use the application.
	ErrRefused = errors.New("client: this user may not sign in here")
	// ErrUnsupported says that the provider lacks the endpoint that a call needs.
	ErrUnsupported = errors.New("client: the provider does not offer this")
)

// Error is an error that the provider reported, at the redirect URI (RFC 6749, section
// 4.1.2.1) or in an answer (section 5.2). It is a type of its own so that a server which
// is somebody's client does not pass it on as its own *oauth.Error.
type Error struct {
	Code        oauth.ErrorCode
	Description string
	URI         string
	// Status is the HTTP status of the answer; zero for an error at the redirect URI.
	Status int
	// RetryAfter is how long the provider asks to be left alone; zero if it did not say.
	RetryAfter time.Duration
}

func (e *Error) Error() string {
	s := "client: the provider answered " + string(e.Code)
	if e.Description != "" {
		s += ": " + e.Description
	}
	if e.Status != 0 {
		s += fmt.Sprintf(" (status %d)", e.Status)
	}
	return s
}

// Is reports whether target is an *Error of the same code, so that
// errors.Is(err, &client.Error{Code: oauth.AccessDenied}) asks for the code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// SignInError is a sign-in that failed, as RelyingPartyConfig.Error gets it. TryAgain is the
// path that begins it again and comes back to where the end user wanted to go.
type SignInError struct {
	TryAgain string
	Err      error
}

func (e *SignInError) Error() string { return e.Err.Error() }
func (e *SignInError) Unwrap() error { return e.Err }

// newError keeps what the provider said short and printable: it ends in logs and on
// pages.
func newError(code, description, uri string) *Error {
	return &Error{
		Code:        oauth.ErrorCode(tame(code, 64)),
		Description: tame(description, 500),
		URI:         tame(uri, 500),
	}
}

func tame(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
	}
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return ' '
		}
		return r
	}, s)
}

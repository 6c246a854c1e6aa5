package client

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

// Errors of providers, callbacks and responses. Functions return errors that wrap these and
// have more details; use errors.Is.
var (
	// ErrMetadata means that a provider's metadata is missing or not valid.
	ErrMetadata = errors.New("client: the provider's metadata is not usable")
	// ErrState means that a callback does not belong to the transaction: the sign-in was
	// started in another browser, or the request is forged (RFC 6749, section 10.12).
	ErrState = errors.New("client: the callback does not belong to this sign-in")
	// ErrTransaction means that the transaction has expired or was used before.
	ErrTransaction = errors.New("client: the sign-in has expired or was completed before")
	// ErrMixUp means that the response comes from another provider than the request was sent
	// to (RFC 9207, section 2.4).
	ErrMixUp = errors.New("client: the callback comes from another provider")
	// ErrCallback means that a callback is malformed.
	ErrCallback = errors.New("client: the callback is malformed")
	// ErrResponse means that the response of an endpoint does not follow its standard.
	ErrResponse = errors.New("client: the provider's response is not valid")
	// ErrIDToken means that an ID token is not valid by OpenID Connect Core.
	ErrIDToken = errors.New("client: the ID token is not valid")
	// ErrSubject means that UserInfo is about another user than the ID token.
	ErrSubject = errors.New("client: UserInfo is about another user")
	// ErrSignInAgain means that the tokens cannot be renewed: there is no refresh token, or
	// the provider does not accept it anymore. The user must sign in again.
	ErrSignInAgain = errors.New("client: the user must sign in again")
	// ErrStepUp means that the provider did not authenticate the user as an API requires (RFC
	// 9470).
	ErrStepUp = errors.New("client: the user did not authenticate as the API requires")
	// ErrRefused is for RelyingPartyConfig.OnSignIn: the user may not use the application.
	ErrRefused = errors.New("client: the user may not use this application")
	// ErrUnsupported means that the provider does not have the required endpoint.
	ErrUnsupported = errors.New("client: not supported by the provider")
)

// Error is an error from the provider, in an authorization response (RFC 6749, section
// 4.1.2.1) or in the response of an endpoint (section 5.2). It is not an *oauth.Error, so that
// a server that is itself a client does not return it as its own error.
type Error struct {
	Code        oauth.ErrorCode
	Description string
	URI         string
	// Status is the HTTP status of the response; zero for an authorization response.
	Status int
	// RetryAfter is the time from the Retry-After header; zero without one.
	RetryAfter time.Duration

	authSession string
}

// AuthSession returns the auth_session with which a first-party application continues after
// insufficient_authorization, for Client.ResumeAuthorizationChallenge; "" if there is none
// (draft-ietf-oauth-first-party-apps, section 6.2, experimental).
func (e *Error) AuthSession() string { return e.authSession }

// GoString keeps the auth_session out of logs.
func (e *Error) GoString() string { return e.Error() }

func (e *Error) Error() string {
	s := "client: the provider responded with " + string(e.Code)
	if e.Description != "" {
		s += ": " + e.Description
	}
	if e.Status != 0 {
		s += fmt.Sprintf(" (status %d)", e.Status)
	}
	return s
}

// Is reports whether target is an *Error with the same code, so that
// errors.Is(err, &client.Error{Code: oauth.AccessDenied}) compares codes.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// SignInError is the error of a failed sign-in that RelyingPartyConfig.Error gets. TryAgain is
// the path that starts the sign-in again and returns to the same page afterwards.
type SignInError struct {
	TryAgain string
	Err      error
}

func (e *SignInError) Error() string { return e.Err.Error() }
func (e *SignInError) Unwrap() error { return e.Err }

// newError shortens the provider's texts and makes them printable, because they are shown in
// logs and on pages.
func newError(code, description, uri string) *Error {
	return &Error{
		Code:        oauth.ErrorCode(sanitize(code, 64)),
		Description: sanitize(description, 500),
		URI:         sanitize(uri, 500),
	}
}

func sanitize(s string, limit int) string {
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

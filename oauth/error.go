package oauth

import (
	"errors"
	"net/http"
	"strings"
)

// ErrorCode is a value of the "error" parameter, as registered with IANA in the
// OAuth Extensions Error Registry (RFC 6749, section 11.4).
type ErrorCode string

// The codes of RFC 6749, sections 4.1.2.1 and 5.2.
const (
	InvalidRequest          ErrorCode = "invalid_request"
	InvalidClient           ErrorCode = "invalid_client"
	InvalidGrant            ErrorCode = "invalid_grant"
	UnauthorizedClient      ErrorCode = "unauthorized_client"
	UnsupportedGrantType    ErrorCode = "unsupported_grant_type"
	UnsupportedResponseType ErrorCode = "unsupported_response_type"
	InvalidScope            ErrorCode = "invalid_scope"
	AccessDenied            ErrorCode = "access_denied"
	ServerError             ErrorCode = "server_error"
	TemporarilyUnavailable  ErrorCode = "temporarily_unavailable"
)

// The codes of RFC 8628, section 3.5.
const (
	AuthorizationPending ErrorCode = "authorization_pending"
	SlowDown             ErrorCode = "slow_down"
	ExpiredToken         ErrorCode = "expired_token"
)

// The codes of a protected resource (RFC 6750, section 3.1; RFC 9470, section 3).
const (
	InvalidToken                   ErrorCode = "invalid_token"
	InsufficientScope              ErrorCode = "insufficient_scope"
	InsufficientUserAuthentication ErrorCode = "insufficient_user_authentication"
)

// The codes of OpenID Connect Core, section 3.1.2.6, and of OpenID Connect Core
// Unmet Authentication Requirements.
const (
	InteractionRequired            ErrorCode = "interaction_required"
	LoginRequired                  ErrorCode = "login_required"
	AccountSelectionRequired       ErrorCode = "account_selection_required"
	ConsentRequired                ErrorCode = "consent_required"
	InvalidRequestURI              ErrorCode = "invalid_request_uri"
	InvalidRequestObject           ErrorCode = "invalid_request_object"
	RequestNotSupported            ErrorCode = "request_not_supported"
	RequestURINotSupported         ErrorCode = "request_uri_not_supported"
	RegistrationNotSupported       ErrorCode = "registration_not_supported"
	UnmetAuthenticationRequirement ErrorCode = "unmet_authentication_requirements"
)

// The codes of RFC 7591, section 3.2.2, RFC 7009, section 2.2.1, and RFC 8707, section 2.
const (
	InvalidRedirectURI          ErrorCode = "invalid_redirect_uri"
	InvalidClientMetadata       ErrorCode = "invalid_client_metadata"
	InvalidSoftwareStatement    ErrorCode = "invalid_software_statement"
	UnapprovedSoftwareStatement ErrorCode = "unapproved_software_statement"
	UnsupportedTokenType        ErrorCode = "unsupported_token_type"
	InvalidTarget               ErrorCode = "invalid_target"
	InvalidAuthorizationDetails ErrorCode = "invalid_authorization_details"
)

// The codes of draft-ietf-oauth-first-party-apps, section 5.2.2.1.
const (
	InvalidSession            ErrorCode = "invalid_session"
	InsufficientAuthorization ErrorCode = "insufficient_authorization"
	RedirectToWeb             ErrorCode = "redirect_to_web"
)

// The codes of OpenID Connect CIBA Core, sections 12 and 13.
const (
	ExpiredLoginHintToken ErrorCode = "expired_login_hint_token"
	UnknownUserID         ErrorCode = "unknown_user_id"
	MissingUserCode       ErrorCode = "missing_user_code"
	InvalidUserCode       ErrorCode = "invalid_user_code"
	InvalidBindingMessage ErrorCode = "invalid_binding_message"
	TransactionFailed     ErrorCode = "transaction_failed"
)

// The codes of RFC 9449, sections 4.3 and 8.
const (
	InvalidDPoPProof ErrorCode = "invalid_dpop_proof"
	UseDPoPNonce     ErrorCode = "use_dpop_nonce"
)

// The codes of draft-ietf-oauth-attestation-based-client-auth, section 7.4.
const (
	UseAttestationChallenge  ErrorCode = "use_attestation_challenge"
	UseFreshAttestation      ErrorCode = "use_fresh_attestation"
	InvalidClientAttestation ErrorCode = "invalid_client_attestation"
)

// Error is a protocol error. It is sent to the other party, so it must not contain anything
// that this party may not know. Clients see any other error as server_error; the details are
// only in the log.
type Error struct {
	Code ErrorCode
	// Description says what a developer has to fix. It never repeats input, and NewError
	// limits it to the characters that RFC 6749, section 5.2 allows.
	Description string
	// URI is a page about the error; optional.
	URI string
	// AuthSession is the auth_session that the client sends with its next attempt
	// (draft-ietf-oauth-first-party-apps, section 5.3.1). It is set for challenges only.
	AuthSession string
	// RequestURI and ExpiresIn, in seconds, are the pushed request with which a user continues in a
	// browser (section 5.2.2.1.1). They may be set with redirect_to_web.
	RequestURI string
	ExpiresIn  int64
	// Status is the HTTP status of a JSON response; zero means the status of the code
	// (StatusOf).
	Status int
	cause  error
}

// NewError returns a protocol error. Characters that RFC 6749, section 5.2 does not allow in
// a description are replaced by apostrophes.
func NewError(code ErrorCode, description string) *Error {
	return &Error{Code: code, Description: printable(description)}
}

// WithCause returns a copy of e with a cause. The cause is for the log and is never sent.
func (e *Error) WithCause(cause error) *Error {
	c := *e
	c.cause = cause
	return &c
}

func (e *Error) Error() string {
	s := string(e.Code)
	if e.Description != "" {
		s += ": " + e.Description
	}
	if e.cause != nil {
		s += ": " + e.cause.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// Is reports whether target is an *Error with the same code, so that
// errors.Is(err, &oauth.Error{Code: oauth.InvalidGrant}) compares codes.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && (t.Description == "" || t.Description == e.Description)
}

// AsError returns the protocol error in err's chain, or nil.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return nil
}

// StatusOf returns the HTTP status of a JSON response or a challenge with this code.
func StatusOf(code ErrorCode) int {
	switch code {
	case InvalidClient, InvalidToken, InsufficientUserAuthentication:
		return http.StatusUnauthorized
	case InsufficientScope, InsufficientAuthorization, RedirectToWeb:
		return http.StatusForbidden
	case ServerError:
		return http.StatusInternalServerError
	case TemporarilyUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

// HTTPStatus returns the HTTP status of e as a JSON response.
func (e *Error) HTTPStatus() int {
	if e.Status != 0 {
		return e.Status
	}
	return StatusOf(e.Code)
}

// printable keeps %x20-21 / %x23-5B / %x5D-7E (RFC 6749, section 5.2).
func printable(s string) string {
	ok := func(r rune) bool { return r >= 0x20 && r <= 0x7e && r != '"' && r != '\\' }
	if strings.IndexFunc(s, func(r rune) bool { return !ok(r) }) < 0 {
		return s
	}
	return strings.Map(func(r rune) rune {
		if ok(r) {
			return r
		}
		return '\''
	}, s)
}

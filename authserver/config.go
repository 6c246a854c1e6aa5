package authserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// Config configures the engine of one issuer. The zero value of each optional field is the
// secure default. All functions must be safe for concurrent use.
type Config struct {
	// Issuer is the issuer identifier. Every URL of the engine begins with it.
	Issuer string
	Store  record.Store
	// Secret has 32 bytes or more. All nodes of the issuer share it. The keys of authorization
	// codes and the successors of refresh tokens are derived from it.
	Secret []byte
	// Users knows the users and their sign-in sessions.
	Users Users
	// ExternalKeys are signing keys that are not in the store.
	ExternalKeys []ExternalKey

	// Pages are the pages for users.
	Pages Pages
	// SignIn says what the engine publishes about sign-in.
	SignIn SignInSettings
	// Claims says which claims about a user clients get.
	Claims ClaimSettings
	// Hooks are code and services of the operator that take part in issuing tokens.
	Hooks Hooks

	// AuthorizationDetailsTypes are the types of authorization details that clients may use (RFC
	// 9396).
	AuthorizationDetailsTypes []AuthorizationDetailsType
	// TokenExchange has the rules of token exchange (RFC 8693). Without a rule it is off.
	TokenExchange []TokenExchangeRule
	// TrustedIssuers are external issuers whose JWTs or SAML assertions are accepted.
	TrustedIssuers []TrustedIssuer
	// FirstPartyApplications lets clients with the setting FirstParty send passwords to the
	// authorization challenge endpoint (draft-ietf-oauth-first-party-apps, experimental).
	FirstPartyApplications bool
	// Registration says whether clients may register themselves.
	Registration RegistrationPolicy
	// MetadataDocuments says whether clients may have a metadata document instead of a registration.
	MetadataDocuments MetadataDocumentPolicy
	// Profile is the profile of every client that has none of its own, one of Profiles. "" is
	// ProfileOAuth21. If it is set, the profile of a client must not be weaker.
	Profile string
	// RequireCodeChallenge requires PKCE of every client (see ClientSettings).
	RequireCodeChallenge bool
	// RequirePushedAuthorizationRequests requires every client to push its authorization
	// requests (RFC 9126).
	RequirePushedAuthorizationRequests bool
	// RequireSignedRequestObject requires signed request objects of every client (RFC 9101).
	RequireSignedRequestObject bool
	Lifetimes                  Lifetimes
	// MutualTLS lets clients use certificates; nil turns that off (RFC 8705).
	MutualTLS *MutualTLS
	// DPoP says what is required of DPoP proofs (RFC 9449).
	DPoP DPoPPolicy
	// OwnAPI is an API of the server itself; nil if there is none.
	OwnAPI *OwnAPI

	// Outgoing says to which addresses the engine may connect to fetch the URLs of clients and to
	// send logout tokens.
	Outgoing Outgoing
	// RemoteAddr returns the address of the client behind trusted proxies; nil means
	// r.RemoteAddr.
	RemoteAddr func(r *http.Request) netip.Addr
	// Logger receives the log, with details that clients do not get; nil means slog.Default().
	Logger *slog.Logger
	// OnTrace, if set, receives the trace of every request, accepted or refused. The demo
	// displays them.
	OnTrace func(*record.Trace)
}

// SignInSettings say what the engine publishes about sign-in.
type SignInSettings struct {
	// ACRValues are the authentication context classes that sign-in can reach, weakest first.
	// They are compared with what a client calls essential.
	ACRValues []string
	// Policy says which of them a user must reach; nil means that any is sufficient.
	Policy SignInPolicy
	// UpstreamLogout signs users out at other providers too, after they have signed out here; nil if
	// there is none. It is called before the session of the browser that sent r ends, and returns the URL
	// to which the browser is sent afterwards. There, it must come back to continueTo, which is "" for
	// Pages.SignedOut. If there is nothing to do, or it cannot be done, it returns continueTo.
	UpstreamLogout func(w http.ResponseWriter, r *http.Request, continueTo string) (string, error)
	// BrowserStateCookie is the name of a cookie that scripts can read and that contains
	// Authentication.BrowserState; "" turns session management off.
	BrowserStateCookie string
}

// ClaimSettings say which claims about a user clients get.
type ClaimSettings struct {
	// Mappings rename and compute claims.
	Mappings []ClaimMapping
	// Sources are other providers that clients get claims from.
	Sources []ClaimSource
}

// Hooks are code and services of the operator.
type Hooks struct {
	// TokenClaims, if set, is called before a token or a UserInfo response is issued, and
	// adds claims. An *oauth.Error refuses the request with that error. Any other error, and a
	// claim that the protocol defines, is logged and fails the request. Where two requests
	// race, it may be called again for one of them. A code can still be refused afterwards, if
	// the consent was withdrawn or the session has ended.
	TokenClaims func(ctx context.Context, r TokenRequest) (oauth.Claims, error)
	// Webhooks are called after TokenClaims.
	Webhooks []Webhook
	// GrantTypes are extension grants.
	GrantTypes []GrantType
}

// Pages are the paths of the pages for users, below the issuer. The engine redirects browsers to
// them with the query "interaction=ID", and with "client_id=ID" if the page may link to that client
// after the interaction has expired (PageError.Client). The pages call Server.Authenticated,
// Selected, Consented, Refused, Canceled and LoggedOut.
type Pages struct {
	SignIn  string // default /sign-in
	Consent string // default /consent
	// SignUp is where users create an account; "" if they cannot.
	SignUp string
	// Device is where users enter the user codes of devices.
	Device string // default /device
	// Approve is where users decide on backchannel authentication requests. The query is
	// "request=ID", or "answer=allowed", "answer=denied" or "answer=later" afterwards.
	Approve string // default /approve
	SignOut string // default /sign-out
	// SignedOut is shown after a logout that does not return to a client.
	SignedOut string // default /signed-out
	// UILocales are the languages of the pages, as BCP 47 tags (ui_locales_supported).
	UILocales []string
	// Error writes the page for an error that cannot be returned to the client; nil writes plain
	// text.
	Error func(w http.ResponseWriter, r *http.Request, e PageError)
}

// PageError is the content of an error page.
type PageError struct {
	Status int
	// Code is an OAuth error code or one of the Page… constants.
	Code oauth.ErrorCode
	// Description is for the application's developer; Reference for the operator.
	Description string
	Reference   string
	// ClientName is the name of the application; "" if it is unknown.
	ClientName string
	// Client is the client if the operator declared it or trusts the party that vouches for it.
	// The page may link to its site.
	Client *record.Client
}

// Errors that are only shown to the user, because there is no client to return them to, or because
// the client could do nothing about them.
const (
	PageUnknownClient oauth.ErrorCode = "unknown_client"
	// PageClientDocument: the client's metadata document cannot be used.
	PageClientDocument oauth.ErrorCode = "client_metadata_document"
	PageRedirectURI    oauth.ErrorCode = "redirect_uri_mismatch"
	// PageRedirectURIMissing: the request has no redirect_uri.
	PageRedirectURIMissing oauth.ErrorCode = "redirect_uri_missing"
	PageExpired            oauth.ErrorCode = "interaction_expired"
	PageOtherBrowser       oauth.ErrorCode = "interaction_in_other_browser"
	// PageNotAllowed: the user is in none of the groups that may use the client.
	PageNotAllowed oauth.ErrorCode = "user_not_allowed"
	// PageOtherUser: the request is for a different user from the one who is signed in.
	PageOtherUser oauth.ErrorCode = "request_for_other_user"
)

// Users provides the users and their sign-in sessions. Package ui implements it with package
// identity. Other implementations have their own user database and pages.
//
// All methods must be safe for concurrent use. An error that is not documented here is logged, and
// the request fails.
type Users interface {
	// SignedIn returns the user who is signed in at the browser that sent r; nil if there is none.
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
	// since. The operation that ends a session also records it here, so that a crash loses no
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

	// CheckUserCode reports whether a user has set a user code, and whether a code is that one (CIBA
	// Core, section 7.1). code is "" if only the first is asked. subject is "" if there is no such
	// user; that must take as long. client is the client that sent the code. It returns a
	// *TryLaterError if the code cannot be checked now.
	CheckUserCode(ctx context.Context, subject, client, code string) (set, correct bool, err error)

	// Claims returns all claims about a user, or storage.ErrNotFound if the user is deleted or
	// disabled: then their codes and refresh tokens are refused. The engine does not change
	// the map.
	Claims(ctx context.Context, subject string) (oauth.Claims, error)

	// SubjectActive reports whether what was issued for a user is still valid. It is false if
	// the user is deleted or disabled, or if everything that was issued for them was revoked
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
	// SignedInAt is when the user signed in here, if that was after Time: the user may have
	// authenticated at another provider before. Zero means Time.
	SignedInAt time.Time
	ACR        string
	AMR        []string // RFC 8176
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

// TryLaterError is returned by Users.CheckPassword and Users.CheckUserCode for an attempt that was not checked: there
// were too many, or the server is overloaded.
type TryLaterError struct{ After time.Duration }

func (e *TryLaterError) Error() string {
	return fmt.Sprintf("authserver: too many attempts; try again in %v", e.After)
}

// Format keeps keys out of logs and messages, with any verb.
func (c Config) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "[authorization server %s]", c.Issuer) }

// LogValue keeps keys out of structured logs.
func (c Config) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

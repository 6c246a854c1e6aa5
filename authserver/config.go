package authserver

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

// Config says what one engine serves. The zero value of each optional field is the
// secure default. The engine knows no people: it asks about them through the functions
// of this struct, all of which must be safe for concurrent use.
type Config struct {
	// Issuer is the issuer identifier; every URL that the engine names begins with it.
	Issuer string
	Store  Store
	// Secret is 32 bytes or more that every node of the issuer shares and nobody else
	// knows. Successors of refresh tokens are derived from it.
	Secret []byte

	// SignedIn tells who is signed in at the browser that sent r; nil if nobody is.
	SignedIn func(r *http.Request) (*Authentication, error)
	// Claims returns all claims about a subject, and storage.ErrNotFound if the person is
	// gone or disabled: then codes and refresh tokens of theirs are refused.
	Claims func(ctx context.Context, subject string) (oauth.Claims, error)
	// SubjectActive reports whether what was issued about a subject is still valid: false if
	// the user is gone or disabled, or if everything ended since that had been issued to them
	// before. session is the sign-in session that it was issued in; "" in none. Nil: Claims
	// decides.
	SubjectActive func(ctx context.Context, subject, session string, issued time.Time) (bool, error)
	// ClaimMappings and ClaimSources say what clients see of those claims.
	ClaimMappings []ClaimMapping
	ClaimSources  []ClaimSource
	// TokenClaims, if set, is asked before a token or an answer of UserInfo is made, and adds
	// claims to those that are there. An *oauth.Error refuses the request with that; any
	// other error, and a claim of the protocol's, is logged and fails the request. Where two
	// requests race it may be asked again for one of them.
	TokenClaims func(ctx context.Context, r TokenRequest) (oauth.Claims, error)
	// Webhooks are asked after TokenClaims.
	Webhooks []Webhook
	// GrantTypes are served beside ours.
	GrantTypes []GrantType
	// TokenExchange says who may exchange which tokens for what; without a rule nobody may.
	TokenExchange []TokenExchangeRule
	// TrustedIssuers are others whose JWTs count here; without one nobody's do.
	TrustedIssuers []TrustedIssuer
	// CheckPassword returns who a name and a password prove somebody to be, at the same pace
	// and with the same silence as the sign-in page: ErrWrongPassword, also for an account
	// that needs more than a password; a *TryLaterError; or a fault. Nil: nobody's password
	// is taken.
	CheckPassword func(r *http.Request, username, password string) (*Authentication, error)
	// FirstPartyApplications lets clients with the setting FirstParty send passwords to the
	// authorization challenge endpoint (draft-ietf-oauth-first-party-apps, experimental). It
	// needs CheckPassword.
	FirstPartyApplications bool
	// SessionActive reports whether a sign-in session still stands. Refresh tokens that
	// were issued without offline_access end with it.
	SessionActive func(ctx context.Context, session string) (bool, error)
	// SignOut ends the sign-in session of the browser that sent r.
	SignOut func(w http.ResponseWriter, r *http.Request) error
	// EndedSessions returns sign-in sessions that were ended and are not forgotten yet, at
	// most limit; ForgetEnded forgets them. A session is noted by what ends it, so that a
	// crash loses none. Nil means that clients are not told of a logout by the back channel.
	EndedSessions func(ctx context.Context, limit int) ([]EndedSession, error)
	ForgetEnded   func(ctx context.Context, ended []EndedSession) error
	// FindSubject returns the subject of the person whom a subject identifier names, disabled
	// or not, of the format email or opaque, which is a subject; or iss_sub of another
	// issuer. storage.ErrNotFound: there is none. EndSessions ends all sign-in sessions of a
	// person. Nil, both, means that there is no global token revocation.
	FindSubject func(ctx context.Context, id oauth.SubjectIdentifier) (string, error)
	EndSessions func(ctx context.Context, subject string) error
	// BrowserStateCookie is the name of a cookie that scripts can read and that holds
	// Authentication.BrowserState; "" means that there is no session management.
	BrowserStateCookie string
	// Pages says where the pages for people are.
	Pages Pages

	// ACRValues are the authentication context classes that sign-in can reach, weakest
	// first; they are published, and compared with what a client calls essential.
	ACRValues []string

	Lifetimes Lifetimes
	// Registration says whether clients may register themselves.
	Registration RegistrationPolicy
	// MetadataDocuments says whether clients may be known by a document of theirs.
	MetadataDocuments MetadataDocumentPolicy
	// RequireCodeChallenge asks every client for PKCE (see ClientSettings).
	RequireCodeChallenge bool
	// Outgoing says where the engine may connect to on its own: to fetch what clients name
	// and to tell them of a logout.
	Outgoing Outgoing
	// RemoteAddr returns the address of the client behind trusted proxies; nil means
	// r.RemoteAddr.
	RemoteAddr func(r *http.Request) netip.Addr
	// Logger receives what is no business of a client; nil means slog.Default().
	Logger *slog.Logger
	// OnTrace, if set, receives the trace of every request, accepted or refused. The
	// demo draws them.
	OnTrace func(*Trace)
}

// Pages are the addresses of the pages that people see, below the issuer: the engine
// sends browsers to them with the query "interaction=ID", and with "client_id=ID" where a
// page may lead to that client when the interaction is gone (PageError.Client). They call back
// with Server.Authenticated, Selected, Consented, Refused, Canceled and LoggedOut.
type Pages struct {
	SignIn  string // default /sign-in
	Consent string // default /consent
	// SignUp is where people make an account for themselves; "" if they cannot.
	SignUp string
	// Device is where people bring the user codes of devices.
	Device  string // default /device
	SignOut string // default /sign-out
	// SignedOut is shown after a logout that returns to no client.
	SignedOut string // default /signed-out
	// Error writes the page of a request that cannot be answered to the client; nil
	// writes plain text.
	Error func(w http.ResponseWriter, r *http.Request, e PageError)
}

// PageError is what an error page has to say.
type PageError struct {
	Status int
	// Code is an OAuth error code, or one of the Page… constants where the dead end is
	// ours and not the client's.
	Code oauth.ErrorCode
	// Description is for the application's developer; Reference for the operator.
	Description string
	Reference   string
	// ClientName is the application's, if it is known.
	ClientName string
	// Client is set if the operator declared it or trusts whoever vouches for it, so that the
	// page may link to its site.
	Client *Client
}

// Dead ends of a person at the browser.
const (
	PageUnknownClient oauth.ErrorCode = "unknown_client"
	// PageClientDocument: the client's metadata document cannot be used.
	PageClientDocument oauth.ErrorCode = "client_metadata_document"
	PageRedirectURI    oauth.ErrorCode = "redirect_uri_mismatch"
	// PageRedirectURIMissing: the application did not say where to return to.
	PageRedirectURIMissing oauth.ErrorCode = "redirect_uri_missing"
	PageExpired            oauth.ErrorCode = "interaction_expired"
	PageOtherBrowser       oauth.ErrorCode = "interaction_in_other_browser"
)

// Authentication is how and when a person proved who they are.
type Authentication struct {
	Subject string
	Time    time.Time
	ACR     string
	AMR     []string // RFC 8176
	// Session is the sign-in session's public name, the sid of OpenID Connect.
	Session string
	// FormerSessions are names that the session had before the person proved again who
	// they are.
	FormerSessions []string
	// SessionExpires is when the session ends by itself.
	SessionExpires time.Time
	// BrowserState changes when somebody signs in or out at the browser (OpenID Connect
	// Session Management, section 3.2).
	BrowserState string
}

// EndedSession is a sign-in session that was ended.
type EndedSession struct {
	Subject string
	// Names are its public names, the last one first.
	Names []string
}

package authserver

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// Config configures the engine of one issuer. The zero value of each optional field is the
// secure default. All functions must be safe for concurrent use.
type Config struct {
	// Issuer is the issuer identifier. Every URL of the engine begins with it.
	Issuer string
	Store  record.Store
	// Secret has 32 bytes or more. All nodes of the issuer share it. Successors of refresh
	// tokens are derived from it.
	Secret []byte
	// Users knows the users and their sign-in sessions.
	Users Users

	// Pages says where the pages for users are.
	Pages Pages
	// SignIn says what the engine publishes about sign-in.
	SignIn SignInSettings
	// Claims says which claims about a user clients get.
	Claims ClaimSettings
	// Hooks are code and services of the operator that take part in issuing tokens.
	Hooks Hooks

	// TokenExchange has the rules of token exchange (RFC 8693). Without a rule it is off.
	TokenExchange []TokenExchangeRule
	// TrustedIssuers are external issuers whose JWTs or SAML assertions are accepted.
	TrustedIssuers []TrustedIssuer
	// FirstPartyApplications lets clients with the setting FirstParty send passwords to the
	// authorization challenge endpoint (draft-ietf-oauth-first-party-apps, experimental).
	FirstPartyApplications bool
	// Registration says whether clients may register themselves.
	Registration RegistrationPolicy
	// MetadataDocuments says whether clients may be known by their metadata document.
	MetadataDocuments MetadataDocumentPolicy
	// RequireCodeChallenge requires PKCE of every client (see ClientSettings).
	RequireCodeChallenge bool
	Lifetimes            Lifetimes

	// Outgoing says where the engine may connect to, to fetch what clients name and to send
	// logout tokens.
	Outgoing Outgoing
	// RemoteAddr returns the address of the client behind trusted proxies; nil means
	// r.RemoteAddr.
	RemoteAddr func(r *http.Request) netip.Addr
	// Logger receives what clients are not told; nil means slog.Default().
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
	// race, it may be called again for one of them.
	TokenClaims func(ctx context.Context, r TokenRequest) (oauth.Claims, error)
	// Webhooks are called after TokenClaims.
	Webhooks []Webhook
	// GrantTypes are extension grants.
	GrantTypes []GrantType
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
	Client *record.Client
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

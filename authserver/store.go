package authserver

import (
	"context"
	"crypto"
	"errors"
	"slices"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
)

// Store is what the engine asks of a database. It belongs to one issuer. A lookup that
// finds nothing returns storage.ErrNotFound; returned records are the caller's own.
type Store interface {
	storage.Tickets
	storage.Outbox
	storage.Counts

	// Version grows whenever a client, resource, scope or key changes. The engine keeps
	// those in memory and asks once a second, so that a change on another node is seen
	// within that second.
	Version(ctx context.Context) (int64, error)
	Client(ctx context.Context, clientID string) (*Client, error)
	// ClientNeeds returns what clients that are not retired need, each combination once.
	ClientNeeds(ctx context.Context) ([]ClientNeeds, error)
	// RegisterClient stores a new client with a Registration, if there are fewer than most
	// such clients; otherwise ErrTooManyClients. storage.ErrExists: there is a client of
	// that ID. The version stays: nobody can have known the client.
	RegisterClient(ctx context.Context, client *Client, most int) error
	// UpdateClient changes a client: update gets the record as it is now, and what it leaves
	// there is stored. Nobody else changes the record meanwhile. update must not call the
	// store, and may be called again if the database asks for another try. If it returns an
	// error nothing changes, and UpdateClient returns that error. The ID cannot change. The
	// version grows, unless nothing but Registration.UnusedUntil changed. storage.ErrNotFound:
	// there is no such client.
	//
	// If Client.Settle says so, every ticket that hangs from a grant to the client or from
	// ClientGrant ends in the same transaction. The grants stay.
	UpdateClient(ctx context.Context, clientID string, update func(*Client) error) error
	// DeleteClient removes a client, the grants to it, and every ticket that hangs from one
	// of those. Its absence is no error.
	DeleteClient(ctx context.Context, clientID string) error
	Resources(ctx context.Context) ([]Resource, error)
	Scopes(ctx context.Context) ([]Scope, error)

	// Keys returns every key that is not deleted, private parts included.
	Keys(ctx context.Context) ([]Key, error)
	// UpdateKeys replaces all keys by what update makes of them, in one transaction in
	// which no other node changes keys. An update that returns an error changes nothing.
	UpdateKeys(ctx context.Context, update func([]Key) ([]Key, error)) error

	// Grant returns the grant of a subject to a client; GrantsOf all grants of a subject.
	Grant(ctx context.Context, subject, clientID string) (*Grant, error)
	GrantsOf(ctx context.Context, subject string) ([]Grant, error)
	// UpdateGrant changes the grant of a subject to a client, as UpdateClient does a client,
	// and returns it. If there is none, update gets a new one with an ID of its own.
	UpdateGrant(ctx context.Context, subject, clientID string, update func(*Grant) error) (*Grant, error)
	// DeleteGrant removes a grant and every ticket that hangs from it, with the promise
	// of storage.Tickets.DeleteFamily about those that are being derived.
	DeleteGrant(ctx context.Context, id string) error

	// SaveTraces keeps explained refusals, at most the newest max of them.
	SaveTraces(ctx context.Context, max int, traces ...Trace) error
	// Trace returns one by its reference.
	Trace(ctx context.Context, ref string) (*Trace, error)
}

// Client is a registered client: the metadata of RFC 7591 and Valetkey's own settings.
type Client struct {
	ID string `json:"client_id"`
	// Secrets are those that are valid now: one, or two while one replaces the other.
	// A store seals them at rest.
	Secrets []string `json:"-"`
	oauth.ClientMetadata
	ClientSettings
	// Registration is nil for a client that an operator declared.
	Registration *Registration `json:"registration,omitempty"`
	// RetiredAt is when a declaration stopped naming the client; zero: it did not. The record
	// is kept, and refused as if it were disabled.
	RetiredAt time.Time `json:"-"`
	// EndedAt is when everything ended that had been issued to the client: codes and tokens
	// from before are not valid. Zero: that never happened.
	EndedAt time.Time `json:"-"`
}

// Active reports whether the client may act. A store knows no more; active does.
func (c *Client) Active() bool { return !c.Disabled && c.RetiredAt.IsZero() }

// Vouched reports whether the operator declared the client, or trusts whoever let it register.
func (c *Client) Vouched() bool { return c.Registration == nil || c.Registration.Vouched }

// active reports whether the client may act now.
func (c *Client) active(now time.Time) bool { return c.Active() && !c.unusable(now) }

// Settle is for stores. It reports whether a change from before ends what was issued to the
// client, because it has become inactive, or active again, and notes since when. What was
// under way while a client was inactive does not come to life afterwards.
func (c *Client) Settle(now time.Time, before *Client) bool {
	if c.Active() == before.Active() {
		return false
	}
	c.EndedAt = now
	return true
}

// ClientGrant is what the tickets of a client's own tokens hang from, as those of a user's
// hang from a Grant.
func ClientGrant(clientID string) string { return "client:" + clientID }

// Registration is how a client registered itself (RFC 7591).
type Registration struct {
	// TokenHash is the SHA-256 of the registration access token (RFC 7592, section 3).
	TokenHash []byte    `json:"token_hash"`
	CreatedAt time.Time `json:"created_at"`
	// UnusedUntil is when the client is gone unless it is used before; zero once it was.
	UnusedUntil time.Time `json:"unused_until,omitzero"`
	// Localized are members with a language tag, such as "client_name#ja" (RFC 7591, section
	// 2.2).
	Localized map[string]string `json:"localized,omitempty"`
	// Initial says that the client had an initial access token.
	Initial bool `json:"initial,omitempty"`
	// Vouched says that somebody whom the operator trusts let the client register: who gave
	// it an initial access token, or who signed its software statement.
	Vouched bool `json:"vouched,omitempty"`
	// SoftwareStatement is the statement that the client came with.
	SoftwareStatement string `json:"software_statement,omitempty"`
}

// unusable reports whether the client registered itself and was not used in time.
func (c *Client) unusable(now time.Time) bool {
	return c.Registration != nil && !c.Registration.UnusedUntil.IsZero() && expired(now, c.Registration.UnusedUntil)
}

// ErrTooManyClients says that as many clients registered themselves as may.
var ErrTooManyClients = errors.New("authserver: as many clients are registered as may be")

// ClientSettings are settings of a client that no specification names. The zero value
// is the secure one.
type ClientSettings struct {
	// Disabled refuses the client everywhere.
	Disabled bool `json:"disabled,omitempty"`
	// SkipConsent is for an operator's own applications: people are not asked.
	SkipConsent bool `json:"skip_consent,omitempty"`
	// FirstParty lets a native application of the operator's own take people's passwords in
	// its own window (Config.FirstPartyApplications).
	FirstParty bool `json:"first_party,omitempty"`
	// RequireCodeChallenge asks a confidential client for PKCE even where an OpenID nonce
	// protects the request (draft-ietf-oauth-v2-1, section 7.5.1).
	RequireCodeChallenge bool `json:"require_code_challenge,omitempty"`
	// InsecureNoCodeChallenge takes requests of a confidential client with neither PKCE nor
	// nonce: a code that leaks can then be put into another session (RFC 9700, section 4.5).
	InsecureNoCodeChallenge bool `json:"insecure_no_code_challenge,omitempty"`
	// RedirectSchemes are private-use schemes without a dot that the client's redirect URIs
	// may have, such as "oc": other applications can take them too (RFC 8252, section 8.4). A
	// client that registers itself has those of the operator's policy.
	RedirectSchemes []string `json:"redirect_schemes,omitempty"`
	// AllowedOrigins are origins beside those of the redirect URIs whose scripts may
	// call the endpoints that browsers call (CORS).
	AllowedOrigins []string `json:"allowed_origins,omitempty"`
	// InsecureAssertionAudience takes the token endpoint's URL, or an array that holds
	// the issuer, as the audience of a client assertion, as RFC 7523 did before RFC 10070.
	InsecureAssertionAudience bool `json:"insecure_assertion_audience,omitempty"`
	// AccessTokenSignedResponseAlg signs the client's JWT access tokens; "" is ES256.
	AccessTokenSignedResponseAlg string `json:"access_token_signed_response_alg,omitempty"`
	// Resources limits the resource indicators that the client may name; nil: any that
	// is declared.
	Resources []string `json:"resources,omitempty"`

	// AccessTokenLifetime and IDTokenLifetime are at most MaxOwnLifetime; zero leaves what
	// the resource says, or what holds for all.
	AccessTokenLifetime Duration `json:"access_token_lifetime,omitzero"`
	IDTokenLifetime     Duration `json:"id_token_lifetime,omitzero"`
	// RefreshTokenLifetime is how long a refresh token lasts unused, RefreshTokenMaxLifetime
	// how long its family lasts in all, and RefreshRetry how long the answer to a rotation
	// may be asked for again; zero leaves what holds for all.
	RefreshTokenLifetime    Duration `json:"refresh_token_lifetime,omitzero"`
	RefreshTokenMaxLifetime Duration `json:"refresh_token_max_lifetime,omitzero"`
	RefreshRetry            Duration `json:"refresh_retry,omitzero"`
	// RefreshTokenReuse lets a confidential client keep its refresh token instead of getting
	// another one at each use.
	RefreshTokenReuse bool `json:"refresh_token_reuse,omitempty"`
	// MaxAuthorizations is how many authorizations of one person last at once, such as
	// sign-ins on several devices; a new one ends the oldest. Zero means any number.
	MaxAuthorizations int `json:"max_authorizations,omitempty"`
	// AccessTokenClaims are claims of the person that the client's access tokens carry.
	AccessTokenClaims []string `json:"access_token_claims,omitempty"`
	// IDTokenClaims are claims of the person that the client's ID tokens carry, for clients
	// that do not ask UserInfo.
	IDTokenClaims []string `json:"id_token_claims,omitempty"`
	// WorkloadIdentity is what the client proves itself with, where its
	// token_endpoint_auth_method is federated_jwt.
	WorkloadIdentity *WorkloadIdentity `json:"workload_identity,omitempty"`
	// GlobalTokenRevocation lets the client end every token and session of any person.
	GlobalTokenRevocation bool `json:"global_token_revocation,omitempty"`
}

// Scope is a scope that clients may ask for.
type Scope struct {
	Name string `json:"name"`
	// Description says in plain words what a person allows by it.
	Description string `json:"description,omitempty"`
	// Claims are released by the scope at the UserInfo endpoint.
	Claims []string `json:"claims,omitempty"`
	// Optional lets the person leave it out on the consent page.
	Optional bool `json:"optional,omitempty"`
}

// The values of Resource.AccessTokenFormat.
const (
	AccessTokenJWT    = "jwt"
	AccessTokenOpaque = "opaque"
)

// Resource is a protected resource, an API, by its resource indicator (RFC 8707).
type Resource struct {
	Identifier string `json:"identifier"`
	// Name is shown to people.
	Name string `json:"name,omitempty"`
	// Scopes are those that mean something to this API; an access token for it carries
	// no others but OpenID Connect's own.
	Scopes []string `json:"scopes,omitempty"`
	// AccessTokenFormat is AccessTokenJWT (also "") or AccessTokenOpaque.
	AccessTokenFormat string `json:"access_token_format,omitempty"`
	// IntrospectionClients are the client_ids by which the API introspects; the client
	// whose client_id is the Identifier always may.
	IntrospectionClients []string `json:"introspection_clients,omitempty"`
	// AccessTokenLifetime is at most MaxOwnLifetime; zero leaves what the client says, or
	// what holds for all.
	AccessTokenLifetime Duration `json:"access_token_lifetime,omitzero"`
	// StatusList has JWT access tokens for the API say in which list it can be looked up
	// whether they were revoked (draft-ietf-oauth-status-list).
	StatusList bool `json:"status_list,omitempty"`
	// AccessTokenClaims are claims of the person that access tokens for the API carry.
	AccessTokenClaims []string `json:"access_token_claims,omitempty"`
}

// MayIntrospect reports whether a client speaks for the API.
func (r *Resource) MayIntrospect(clientID string) bool {
	return r.Identifier == clientID || slices.Contains(r.IntrospectionClients, clientID)
}

// Key is a private key and the times of its life. One that signs is published from the
// moment it is stored until PublishedUntil, and signs from SignsFrom until another key of
// its algorithm does. One whose algorithm is one of encryption decrypts until
// PublishedUntil, and is published until that is set.
type Key struct {
	ID             string // kid
	Algorithm      jose.Algorithm
	Private        crypto.Signer
	CreatedAt      time.Time
	SignsFrom      time.Time
	PublishedUntil time.Time // zero: no end is set yet
}

// Decrypts reports whether the key is one that clients encrypt to.
func (k *Key) Decrypts() bool { return decrypts(k.Algorithm) }

// Grant is a record of its own: this person let this client have these scopes since
// then. Codes and tokens hang from it and end with it.
type Grant struct {
	ID       string
	Subject  string
	ClientID string
	Scope    oauth.Scope
	// Declined are optional scopes that the person left out; they are not asked again
	// unless the client says prompt=consent.
	Declined oauth.Scope
	// Resources are the APIs that the person was asked about with the scopes. Nil says that
	// they were not recorded, in a grant of an earlier version: it covers the APIs that know
	// its scopes.
	Resources []string
	CreatedAt time.Time
	UpdatedAt time.Time
}

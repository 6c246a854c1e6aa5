package record

import (
	"fmt"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

// Client is a client of the authorization server: its metadata of RFC 7591 and Valetkey's
// own settings.
type Client struct {
	ID string `json:"client_id"`
	// Secrets are the valid client secrets: one, or two while one replaces the other. A store
	// encrypts them.
	Secrets []string `json:"-"`
	oauth.ClientMetadata
	ClientSettings
	// Registration is nil for a client that an operator declared.
	Registration *Registration `json:"registration,omitempty"`
	// RetiredAt is when the client was removed from the declaration; zero if it was not. The
	// record remains, and the client is refused like a disabled one.
	RetiredAt time.Time `json:"-"`
	// EndedAt is when everything ended that had been issued to the client: earlier codes and
	// tokens are not valid. Zero means that this never happened.
	EndedAt time.Time `json:"-"`
	// DeclaredBy is the source that declares the client; "" if none does. Only a database has it,
	// and changing it here has no effect.
	DeclaredBy string `json:"-"`
}

// Active reports whether the client is neither disabled nor retired. The engine also checks
// whether a registered client was used in time.
func (c *Client) Active() bool { return !c.Disabled && c.RetiredAt.IsZero() }

// Vouched reports whether the operator declared the client, or trusts the party that let it
// register.
func (c *Client) Vouched() bool { return c.Registration == nil || c.Registration.Vouched }

// End ends everything that was issued to the client until now. Functions passed to
// Store.UpdateClient call it.
func (c *Client) End(now time.Time) { c.EndedAt = now }

// Settle is called by stores when a client changes. It reports whether what was issued to the
// client ends, because End was called, or because the client has become inactive, or active again,
// and sets EndedAt. A flow that began while the client was inactive cannot be completed afterwards.
func (c *Client) Settle(now time.Time, before *Client) bool {
	if c.Active() == before.Active() && c.EndedAt.Equal(before.EndedAt) {
		return false
	}
	c.EndedAt = now
	return true
}

// Registration says how a client registered itself (RFC 7591).
type Registration struct {
	// TokenHash is the SHA-256 of the registration access token (RFC 7592, section 3).
	TokenHash []byte    `json:"token_hash"`
	CreatedAt time.Time `json:"created_at"`
	// UnusedUntil is when the client is removed if it has not been used; zero once it was used.
	UnusedUntil time.Time `json:"unused_until,omitzero"`
	// Localized are members with a language tag, such as "client_name#ja" (RFC 7591, section
	// 2.2).
	Localized map[string]string `json:"localized,omitempty"`
	// Initial says that the client presented an initial access token.
	Initial bool `json:"initial,omitempty"`
	// Vouched says that a trusted party let the client register: it issued the initial access
	// token, or signed the software statement.
	Vouched bool `json:"vouched,omitempty"`
	// SoftwareStatement is the software statement in the registration request.
	SoftwareStatement string `json:"software_statement,omitempty"`
}

// Removable reports whether the client gives way to another one that registers itself: it was
// never used, and no trusted party let it register.
func (r *Registration) Removable() bool { return r != nil && !r.UnusedUntil.IsZero() && !r.Vouched }

// ClientSettings are settings of a client that no specification names. The zero value
// is the secure one.
type ClientSettings struct {
	// Disabled refuses the client at every endpoint.
	Disabled bool `json:"disabled,omitempty"`
	// Profile is the name of the profile that sets the client's rules (authserver.Profiles); ""
	// means the server's.
	Profile string `json:"profile,omitempty"`
	// InsecureWeakerProfile allows a Profile that is weaker than the server's.
	InsecureWeakerProfile bool `json:"insecure_weaker_profile,omitempty"`
	// SkipConsent skips the consent page. It is for an operator's own applications.
	SkipConsent bool `json:"skip_consent,omitempty"`
	// FirstParty lets a native application of the operator ask for users' passwords in its own
	// window (authserver.Config.FirstPartyApplications).
	FirstParty bool `json:"first_party,omitempty"`
	// RequireCodeChallenge requires PKCE of a confidential client even if an OpenID nonce
	// protects the request (draft-ietf-oauth-v2-1, section 7.5.1).
	RequireCodeChallenge bool `json:"require_code_challenge,omitempty"`
	// InsecureNoCodeChallenge accepts requests of a confidential client with neither PKCE nor
	// nonce: a leaked code can then be injected into another session (RFC 9700, section 4.5).
	InsecureNoCodeChallenge bool `json:"insecure_no_code_challenge,omitempty"`
	// RequireDPoPNonce requires a nonce of the server in the client's DPoP proofs (RFC 9449,
	// section 8), also if the server does not require it of all clients.
	RequireDPoPNonce bool `json:"require_dpop_nonce,omitempty"`
	// RedirectSchemes are private-use schemes without a dot that the client's redirect URIs
	// may have, such as "oc": other applications can claim them too (RFC 8252, section 8.4). A
	// client that registers itself has those of the operator's policy.
	RedirectSchemes []string `json:"redirect_schemes,omitempty"`
	// AllowedOrigins are origins, in addition to those of the redirect URIs, whose scripts may
	// call the endpoints that browsers call (CORS).
	AllowedOrigins []string `json:"allowed_origins,omitempty"`
	// InsecureAssertionAudience accepts the token endpoint's URL, or an array that contains
	// the issuer, as the audience of a client assertion, as RFC 7523 did before RFC 10070.
	InsecureAssertionAudience bool `json:"insecure_assertion_audience,omitempty"`
	// RequireAssertionTyp requires that client assertions have the typ client-authentication+jwt, so
	// that no other JWT of the client can pass for one (RFC 10070).
	RequireAssertionTyp bool `json:"require_assertion_typ,omitempty"`
	// AccessTokenSignedResponseAlg signs the client's JWT access tokens; "" is ES256.
	AccessTokenSignedResponseAlg string `json:"access_token_signed_response_alg,omitempty"`
	// Resources limits the resource indicators that the client may use; nil allows every
	// declared resource.
	Resources []string `json:"resources,omitempty"`

	// AccessTokenLifetime and IDTokenLifetime are at most MaxOwnLifetime. If they are zero,
	// the lifetime of the resource or the server's applies.
	AccessTokenLifetime Duration `json:"access_token_lifetime,omitzero"`
	IDTokenLifetime     Duration `json:"id_token_lifetime,omitzero"`
	// RefreshTokenLifetime is how long an unused refresh token lasts, RefreshTokenMaxLifetime
	// how long its family lasts in total, and RefreshRetry how long a client may repeat a
	// rotation and get the same response. If they are zero, the server's lifetimes apply.
	RefreshTokenLifetime    Duration `json:"refresh_token_lifetime,omitzero"`
	RefreshTokenMaxLifetime Duration `json:"refresh_token_max_lifetime,omitzero"`
	RefreshRetry            Duration `json:"refresh_retry,omitzero"`
	// RefreshTokenReuse lets a confidential client keep its refresh token instead of getting a
	// new one at each use.
	RefreshTokenReuse bool `json:"refresh_token_reuse,omitempty"`
	// MaxAuthorizations is how many authorizations of one user may be active at once, such as
	// sign-ins on several devices; a new one ends the oldest. Zero means no limit.
	MaxAuthorizations int `json:"max_authorizations,omitempty"`
	// AccessTokenClaims are claims about the user in the client's access tokens.
	AccessTokenClaims []string `json:"access_token_claims,omitempty"`
	// IDTokenClaims are claims about the user in the client's ID tokens, for clients that do
	// not call the UserInfo endpoint.
	IDTokenClaims []string `json:"id_token_claims,omitempty"`
	// WorkloadIdentity authenticates a client whose token_endpoint_auth_method is
	// federated_jwt.
	WorkloadIdentity *WorkloadIdentity `json:"workload_identity,omitempty"`
	// AllowedGroups are the groups whose users may use the client; nil means that every user may.
	AllowedGroups []string `json:"allowed_groups,omitempty"`
	// Role is what the client may manage with its own access tokens (client credentials), one of
	// Roles; "" is nothing.
	Role string `json:"role,omitempty"`
	// GlobalTokenRevocation lets the client end every token and session of any user.
	GlobalTokenRevocation bool `json:"global_token_revocation,omitempty"`
}

// Roles returns the names of the roles of users and clients who may manage the server. Package
// manage/api says what each may do.
func Roles() []string { return []string{"administrator", "operator", "support", "auditor"} }

// WorkloadIdentity identifies a client without a secret by the JWT that its platform gives
// it, such as the JWT of a Kubernetes service account or of a CI job.
type WorkloadIdentity struct {
	// Issuer is one of the trusted issuers, with the use client_authentication.
	Issuer string `json:"issuer"`
	// Subject is the exact sub of the JWT.
	Subject string `json:"subject"`
	// Claims must be in the JWT with these values, in addition to those that the setting of
	// the issuer requires.
	Claims map[string]any `json:"claims,omitempty"`
}

// ClientNeeds are the members of a client's metadata that decide which keys this server has,
// and what else it offers only while a client may use it.
type ClientNeeds struct {
	IDTokenSignedResponseAlg       string
	UserinfoSignedResponseAlg      string
	AccessTokenSignedResponseAlg   string
	AuthorizationSignedResponseAlg string
	IntrospectionSignedResponseAlg string
	IDTokenEncryptedResponseAlg    string
	RequestObjectEncryptionAlg     string
	RequestObjectSigningAlg        string
	ResponseTypes                  []string
	BackchannelUserCodeParameter   bool
}

// Needs returns what the client needs, according to its metadata as stored.
func (c *Client) Needs() ClientNeeds {
	return ClientNeeds{
		IDTokenSignedResponseAlg:       c.IDTokenSignedResponseAlg,
		UserinfoSignedResponseAlg:      c.UserinfoSignedResponseAlg,
		AccessTokenSignedResponseAlg:   c.AccessTokenSignedResponseAlg,
		AuthorizationSignedResponseAlg: c.AuthorizationSignedResponseAlg,
		IntrospectionSignedResponseAlg: c.IntrospectionSignedResponseAlg,
		IDTokenEncryptedResponseAlg:    c.IDTokenEncryptedResponseAlg,
		RequestObjectEncryptionAlg:     c.RequestObjectEncryptionAlg,
		RequestObjectSigningAlg:        c.RequestObjectSigningAlg,
		ResponseTypes:                  c.ResponseTypes,
		BackchannelUserCodeParameter:   c.BackchannelUserCodeParameter,
	}
}

// Duration is a time.Duration that is written like "10m" or "720h". Zero means that it is
// not set.
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil || parsed <= 0 {
		return fmt.Errorf("%q is not a valid duration (for example, 10m or 720h)", text)
	}
	*d = Duration(parsed)
	return nil
}

// MaxOwnLifetime is the longest access_token_lifetime and id_token_lifetime of a client or
// resource: a key stays published for at least that long after it last signed.
const MaxOwnLifetime = 24 * time.Hour

// CheckOwnLifetime reports why a client or resource cannot have a lifetime.
func CheckOwnLifetime(d Duration) error {
	if d != 0 && (time.Duration(d) < time.Second || time.Duration(d) > MaxOwnLifetime) {
		return fmt.Errorf("%s is not between 1s and 24h", time.Duration(d))
	}
	return nil
}

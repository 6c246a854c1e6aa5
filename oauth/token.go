package oauth

import "encoding/json"

// Token types of RFC 6749, section 7.1 and RFC 8693, section 3.
const (
	TokenTypeBearer = "Bearer"
	TokenTypeDPoP   = "DPoP" // RFC 9449, section 5
	TokenTypeNA     = "N_A"  // access_token contains another kind of token (RFC 8693, section 2.2.1)

	TokenTypeHintAccessToken  = "access_token"
	TokenTypeHintRefreshToken = "refresh_token"
)

// Grant types, as in the grant_type parameter and in client metadata.
const (
	GrantTypeAuthorizationCode = "authorization_code"
	GrantTypeImplicit          = "implicit"
	GrantTypeRefreshToken      = "refresh_token"
	GrantTypeClientCredentials = "client_credentials"
	GrantTypePassword          = "password"
	GrantTypeDeviceCode        = "urn:ietf:params:oauth:grant-type:device_code"
	GrantTypeCIBA              = "urn:openid:params:grant-type:ciba"
	GrantTypeJWTBearer         = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	GrantTypeSAMLBearer        = "urn:ietf:params:oauth:grant-type:saml2-bearer"
	GrantTypeTokenExchange     = "urn:ietf:params:oauth:grant-type:token-exchange"
)

// Token type identifiers (RFC 8693, section 3).
const (
	TokenTypeAccessToken  = "urn:ietf:params:oauth:token-type:access_token"
	TokenTypeRefreshToken = "urn:ietf:params:oauth:token-type:refresh_token"
	TokenTypeIDToken      = "urn:ietf:params:oauth:token-type:id_token"
	TokenTypeJWT          = "urn:ietf:params:oauth:token-type:jwt"
	TokenTypeIDJAG        = "urn:ietf:params:oauth:token-type:id-jag"    // draft-ietf-oauth-identity-assertion-authz-grant
	TokenTypeTransaction  = "urn:ietf:params:oauth:token-type:txn_token" // draft-ietf-oauth-transaction-tokens
)

// GrantProfileIDJAG says that ID-JAGs are accepted
// (draft-ietf-oauth-identity-assertion-authz-grant, section 7.2).
const GrantProfileIDJAG = "urn:ietf:params:oauth:grant-profile:id-jag"

// Client authentication methods (IANA, OAuth Token Endpoint Authentication Methods).
const (
	AuthMethodNone              = "none"
	AuthMethodClientSecretBasic = "client_secret_basic"
	AuthMethodClientSecretPost  = "client_secret_post"
	AuthMethodClientSecretJWT   = "client_secret_jwt"
	AuthMethodPrivateKeyJWT     = "private_key_jwt"
	AuthMethodTLSClient         = "tls_client_auth"             // RFC 8705, section 2.1
	AuthMethodSelfSignedTLS     = "self_signed_tls_client_auth" // RFC 8705, section 2.2
	AuthMethodAttestation       = "attest_jwt_client_auth"      // draft-ietf-oauth-attestation-based-client-auth, section 8
	AuthMethodAttestationDPoP   = "attest_jwt_client_auth_dpop" // the same, with a DPoP proof as the proof of possession
	AuthMethodFederatedJWT      = "federated_jwt"               // not registered: the JWT of the platform that a workload runs on
)

// ClientAssertionTypeJWTBearer is the client_assertion_type of RFC 7523, section 2.2.
const ClientAssertionTypeJWTBearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// The typ header of each kind of JWT (RFC 8725, section 3.11).
const (
	TypAccessToken            = "at+jwt"                           // RFC 9068, section 2.1
	TypClientAttestation      = "oauth-client-attestation+jwt"     // draft-ietf-oauth-attestation-based-client-auth, section 4
	TypClientAttestationProof = "oauth-client-attestation-pop+jwt" // the same draft, section 5.1
	TypIDToken                = "JWT"                              // OpenID Connect Core defines no other
	TypClientAuthentication   = "client-authentication+jwt"        // RFC 10070
	TypIntrospection          = "token-introspection+jwt"          // RFC 9701, section 5
	TypRequestObject          = "oauth-authz-req+jwt"              // RFC 9101, section 10.8
	TypLogoutToken            = "logout+jwt"                       // OpenID Connect Back-Channel Logout, section 2.4
	TypDPoPProof              = "dpop+jwt"                         // RFC 9449, section 4.2
	TypIDJAG                  = "oauth-id-jag+jwt"                 // draft-ietf-oauth-identity-assertion-authz-grant
	TypTransactionToken       = "txntoken+jwt"                     // draft-ietf-oauth-transaction-tokens
)

// EventBackchannelLogout is the member of the events claim that makes a JWT a logout token
// (OpenID Connect Back-Channel Logout, section 2.4).
const EventBackchannelLogout = "http://schemas.openid.net/event/backchannel-logout"

// TokenResponse is the response of the token endpoint (RFC 6749, section 5.1; OpenID Connect
// Core, section 3.1.3.3).
type TokenResponse struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in,omitempty"` // seconds
	RefreshToken string `json:"refresh_token,omitempty"`
	Scope        string `json:"scope,omitempty"`
	IDToken      string `json:"id_token,omitempty"`
	// IssuedTokenType is the type of the token in access_token (RFC 8693, section 2.2.1).
	IssuedTokenType string `json:"issued_token_type,omitempty"`
	// Details are the authorization details of the access token (RFC 9396, section 7).
	Details []json.RawMessage `json:"authorization_details,omitempty"`
	// RefreshTokenTimeout is how long the refresh token is valid if it is not used, and
	// AuthorizationExpiresIn is how long refresh tokens of the authorization are valid at all, in
	// seconds; 0 if there is no limit, or no refresh token
	// (draft-ietf-oauth-refresh-token-expiration, "Successful response").
	RefreshTokenTimeout    int64 `json:"refresh_token_timeout,omitempty"`
	AuthorizationExpiresIn int64 `json:"authorization_expires_in,omitempty"`
}

// DeviceAuthorizationResponse is the response of the device authorization endpoint
// (RFC 8628, section 3.2).
type DeviceAuthorizationResponse struct {
	DeviceCode              string `json:"device_code"`
	UserCode                string `json:"user_code"`
	VerificationURI         string `json:"verification_uri"`
	VerificationURIComplete string `json:"verification_uri_complete,omitempty"`
	ExpiresIn               int64  `json:"expires_in"`         // seconds
	Interval                int64  `json:"interval,omitempty"` // seconds; 5 if omitted
}

// Values of backchannel_token_delivery_mode (OpenID Connect CIBA Core, section 5).
const (
	DeliveryPoll = "poll"
	DeliveryPing = "ping"
	DeliveryPush = "push"
)

// Claims of an ID token that is pushed to the client (OpenID Connect CIBA Core, section 10.3.1).
const (
	ClaimAuthReqID        = "urn:openid:params:jwt:claim:auth_req_id"
	ClaimRefreshTokenHash = "urn:openid:params:jwt:claim:rt_hash"
)

// BackchannelAuthenticationResponse is the response of the backchannel authentication endpoint
// (OpenID Connect CIBA Core, section 7.3).
type BackchannelAuthenticationResponse struct {
	AuthReqID string `json:"auth_req_id"`
	ExpiresIn int64  `json:"expires_in"`         // seconds
	Interval  int64  `json:"interval,omitempty"` // seconds; 5 if omitted
}

// RequestURIPrefix begins each request_uri of a pushed authorization request (RFC 9126, section
// 2.2).
const RequestURIPrefix = "urn:ietf:params:oauth:request_uri:"

// PushedAuthorizationResponse is the response of the pushed authorization request endpoint (RFC
// 9126, section 2.2).
type PushedAuthorizationResponse struct {
	RequestURI string `json:"request_uri"`
	ExpiresIn  int64  `json:"expires_in"` // seconds
}

// AuthorizationChallengeResponse is the response of the authorization challenge endpoint
// (draft-ietf-oauth-first-party-apps, section 5.2.1).
type AuthorizationChallengeResponse struct {
	AuthorizationCode string `json:"authorization_code"`
}

// AttestationChallengeResponse is the response of the challenge endpoint
// (draft-ietf-oauth-attestation-based-client-auth, section 6.3).
type AttestationChallengeResponse struct {
	AttestationChallenge string `json:"attestation_challenge"`
}

// Introspection is an introspection response (RFC 7662, section 2.2). For an inactive token
// it has only the member active.
type Introspection struct {
	Active    bool     `json:"active"`
	Scope     string   `json:"scope,omitempty"`
	ClientID  string   `json:"client_id,omitempty"`
	Username  string   `json:"username,omitempty"`
	TokenType string   `json:"token_type,omitempty"`
	Expiry    int64    `json:"exp,omitempty"`
	IssuedAt  int64    `json:"iat,omitempty"`
	NotBefore int64    `json:"nbf,omitempty"`
	Subject   string   `json:"sub,omitempty"`
	Audience  Audience `json:"aud,omitempty"`
	Issuer    string   `json:"iss,omitempty"`
	ID        string   `json:"jti,omitempty"`
	AuthTime  int64    `json:"auth_time,omitempty"`
	ACR       string   `json:"acr,omitempty"`
	AMR       []string `json:"amr,omitempty"`
	// Details are the authorization details of the token (RFC 9396, section 9.2).
	Details []json.RawMessage `json:"authorization_details,omitempty"`
	// Confirmation is the key that the token is bound to (RFC 9449, section 6.2; RFC 8705,
	// section 3.2).
	Confirmation *Confirmation `json:"cnf,omitempty"`
	// RefreshTokenTimeout and AuthorizationExpiresIn are as in a TokenResponse, for refresh tokens
	// only (draft-ietf-oauth-refresh-token-expiration, section 7).
	RefreshTokenTimeout    int64 `json:"refresh_token_timeout,omitempty"`
	AuthorizationExpiresIn int64 `json:"authorization_expires_in,omitempty"`
}

// Audience is the aud claim: one string or an array of strings (RFC 7519, section 4.1.3).
type Audience []string

// MarshalJSON writes a single audience as a string.
func (a Audience) MarshalJSON() ([]byte, error) {
	if len(a) == 1 {
		return json.Marshal(a[0])
	}
	return json.Marshal([]string(a))
}

// UnmarshalJSON reads a string or an array of strings.
func (a *Audience) UnmarshalJSON(b []byte) error {
	var one string
	if err := json.Unmarshal(b, &one); err == nil {
		*a = Audience{one}
		return nil
	}
	var many []string
	if err := json.Unmarshal(b, &many); err != nil {
		return err
	}
	*a = many
	return nil
}

// Has reports whether value is one of the audiences.
func (a Audience) Has(value string) bool {
	for _, v := range a {
		if v == value {
			return true
		}
	}
	return false
}

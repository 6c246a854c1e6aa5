package oauth

import (
	"encoding/json"
	"slices"
)

// ClientMetadata is the metadata of a client, with the names of RFC 7591, section 2 and
// OpenID Connect Registration, section 2. YAML, the database and registration requests use
// the same members.
type ClientMetadata struct {
	RedirectURIs            []string `json:"redirect_uris,omitempty"`
	PostLogoutRedirectURIs  []string `json:"post_logout_redirect_uris,omitempty"`
	TokenEndpointAuthMethod string   `json:"token_endpoint_auth_method,omitempty"`
	GrantTypes              []string `json:"grant_types,omitempty"`
	ResponseTypes           []string `json:"response_types,omitempty"`
	ApplicationType         string   `json:"application_type,omitempty"`
	ClientName              string   `json:"client_name,omitempty"`
	ClientURI               string   `json:"client_uri,omitempty"`
	LogoURI                 string   `json:"logo_uri,omitempty"`
	PolicyURI               string   `json:"policy_uri,omitempty"`
	TOSURI                  string   `json:"tos_uri,omitempty"`
	Contacts                []string `json:"contacts,omitempty"`
	// AuthorizationDetailsTypes are the types of authorization details that the client may use
	// (RFC 9396, section 10).
	AuthorizationDetailsTypes []string        `json:"authorization_details_types,omitempty"`
	Scope                     string          `json:"scope,omitempty"`
	JWKSURI                   string          `json:"jwks_uri,omitempty"`
	JWKS                      json.RawMessage `json:"jwks,omitempty"`
	SoftwareID                string          `json:"software_id,omitempty"`
	SoftwareVersion           string          `json:"software_version,omitempty"`

	TokenEndpointAuthSigningAlg        string   `json:"token_endpoint_auth_signing_alg,omitempty"`
	SubjectType                        string   `json:"subject_type,omitempty"`
	SectorIdentifierURI                string   `json:"sector_identifier_uri,omitempty"`
	IDTokenSignedResponseAlg           string   `json:"id_token_signed_response_alg,omitempty"`
	IDTokenEncryptedResponseAlg        string   `json:"id_token_encrypted_response_alg,omitempty"`
	IDTokenEncryptedResponseEnc        string   `json:"id_token_encrypted_response_enc,omitempty"`
	UserinfoSignedResponseAlg          string   `json:"userinfo_signed_response_alg,omitempty"`
	UserinfoEncryptedResponseAlg       string   `json:"userinfo_encrypted_response_alg,omitempty"`
	UserinfoEncryptedResponseEnc       string   `json:"userinfo_encrypted_response_enc,omitempty"`
	RequestObjectSigningAlg            string   `json:"request_object_signing_alg,omitempty"`
	RequestObjectEncryptionAlg         string   `json:"request_object_encryption_alg,omitempty"`
	RequestObjectEncryptionEnc         string   `json:"request_object_encryption_enc,omitempty"`
	RequireSignedRequestObject         bool     `json:"require_signed_request_object,omitempty"` // RFC 9101, section 10.5
	RequestURIs                        []string `json:"request_uris,omitempty"`
	RequirePushedAuthorizationRequests bool     `json:"require_pushed_authorization_requests,omitempty"` // RFC 9126, section 6
	DPoPBoundAccessTokens              bool     `json:"dpop_bound_access_tokens,omitempty"`              // RFC 9449, section 5.2
	// ResponseModes are the values of response_mode that the client may use; nil allows all (FAPI 2.0
	// Message Signing, section 5.3.3).
	ResponseModes []string `json:"response_modes,omitempty"`
	// JARM, section 3.
	AuthorizationSignedResponseAlg    string `json:"authorization_signed_response_alg,omitempty"`
	AuthorizationEncryptedResponseAlg string `json:"authorization_encrypted_response_alg,omitempty"`
	AuthorizationEncryptedResponseEnc string `json:"authorization_encrypted_response_enc,omitempty"`
	// RFC 9701, section 6.
	IntrospectionSignedResponseAlg    string   `json:"introspection_signed_response_alg,omitempty"`
	IntrospectionEncryptedResponseAlg string   `json:"introspection_encrypted_response_alg,omitempty"`
	IntrospectionEncryptedResponseEnc string   `json:"introspection_encrypted_response_enc,omitempty"`
	DefaultMaxAge                     *int64   `json:"default_max_age,omitempty"` // seconds
	RequireAuthTime                   bool     `json:"require_auth_time,omitempty"`
	DefaultACRValues                  []string `json:"default_acr_values,omitempty"`
	InitiateLoginURI                  string   `json:"initiate_login_uri,omitempty"`

	// RFC 8705, section 2.1.2: the subject of the certificate of a client that authenticates with
	// tls_client_auth, exactly one of these.
	TLSClientAuthSubjectDN string `json:"tls_client_auth_subject_dn,omitempty"` // RFC 4514
	TLSClientAuthSANDNS    string `json:"tls_client_auth_san_dns,omitempty"`
	TLSClientAuthSANURI    string `json:"tls_client_auth_san_uri,omitempty"`
	TLSClientAuthSANIP     string `json:"tls_client_auth_san_ip,omitempty"`
	TLSClientAuthSANEmail  string `json:"tls_client_auth_san_email,omitempty"`
	// TLSClientCertificateBoundAccessTokens binds the client's access tokens to its certificate
	// (RFC 8705, section 3.4).
	TLSClientCertificateBoundAccessTokens bool `json:"tls_client_certificate_bound_access_tokens,omitempty"`

	// OpenID Connect CIBA Core, section 4.
	BackchannelTokenDeliveryMode               string `json:"backchannel_token_delivery_mode,omitempty"`
	BackchannelClientNotificationEndpoint      string `json:"backchannel_client_notification_endpoint,omitempty"`
	BackchannelAuthenticationRequestSigningAlg string `json:"backchannel_authentication_request_signing_alg,omitempty"`
	BackchannelUserCodeParameter               bool   `json:"backchannel_user_code_parameter,omitempty"`

	// OpenID Connect Back-Channel Logout and Front-Channel Logout, section 2 of each.
	BackchannelLogoutURI              string `json:"backchannel_logout_uri,omitempty"`
	BackchannelLogoutSessionRequired  bool   `json:"backchannel_logout_session_required,omitempty"`
	FrontchannelLogoutURI             string `json:"frontchannel_logout_uri,omitempty"`
	FrontchannelLogoutSessionRequired bool   `json:"frontchannel_logout_session_required,omitempty"`
}

// WithDefaults returns m with the defaults for omitted members from RFC 7591, section 2 and
// OpenID Connect Registration, section 2.
func (m ClientMetadata) WithDefaults() ClientMetadata {
	if m.TokenEndpointAuthMethod == "" {
		m.TokenEndpointAuthMethod = AuthMethodClientSecretBasic
	}
	if m.GrantTypes == nil {
		m.GrantTypes = []string{GrantTypeAuthorizationCode}
	}
	if m.ResponseTypes == nil && slices.Contains(m.GrantTypes, GrantTypeAuthorizationCode) {
		m.ResponseTypes = []string{"code"}
	}
	if m.ApplicationType == "" {
		m.ApplicationType = ApplicationWeb
	}
	if m.SubjectType == "" {
		m.SubjectType = "public"
	}
	if m.IDTokenSignedResponseAlg == "" {
		m.IDTokenSignedResponseAlg = "RS256"
	}
	for _, member := range [...]struct {
		alg string
		enc *string
	}{
		{m.IDTokenEncryptedResponseAlg, &m.IDTokenEncryptedResponseEnc},
		{m.UserinfoEncryptedResponseAlg, &m.UserinfoEncryptedResponseEnc},
		{m.AuthorizationEncryptedResponseAlg, &m.AuthorizationEncryptedResponseEnc},
		{m.IntrospectionEncryptedResponseAlg, &m.IntrospectionEncryptedResponseEnc},
	} {
		if member.alg != "" && *member.enc == "" {
			*member.enc = "A128CBC-HS256"
		}
	}
	return m
}

// Public reports whether the client has no credentials (RFC 6749, section 2.1).
func (m *ClientMetadata) Public() bool { return m.TokenEndpointAuthMethod == AuthMethodNone }

// HasGrantType reports whether the client may use a grant type.
func (m *ClientMetadata) HasGrantType(name string) bool { return slices.Contains(m.GrantTypes, name) }

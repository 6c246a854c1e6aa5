package oauth

import (
	"net/url"
	"strings"
)

// Well-known locations (RFC 8414, section 3; RFC 9728, section 3; OpenID Connect
// Discovery, section 4).
const (
	WellKnownAuthorizationServer = "/.well-known/oauth-authorization-server"
	WellKnownOpenIDConfiguration = "/.well-known/openid-configuration"
	WellKnownProtectedResource   = "/.well-known/oauth-protected-resource"
)

// ServerMetadata describes an authorization server (RFC 8414, section 2) that may
// also be an OpenID Provider (OpenID Connect Discovery, section 3).
type ServerMetadata struct {
	Issuer                                             string   `json:"issuer"`
	AuthorizationEndpoint                              string   `json:"authorization_endpoint,omitempty"`
	ChallengeEndpoint                                  string   `json:"challenge_endpoint,omitempty"`                                  // draft-ietf-oauth-attestation-based-client-auth
	ClientAttestationSigningAlgValuesSupported         []string `json:"client_attestation_signing_alg_values_supported,omitempty"`     // the same draft, section 8
	ClientAttestationPoPSigningAlgValuesSupported      []string `json:"client_attestation_pop_signing_alg_values_supported,omitempty"` // the same draft, section 8
	AuthorizationChallengeEndpoint                     string   `json:"authorization_challenge_endpoint,omitempty"`
	TokenEndpoint                                      string   `json:"token_endpoint,omitempty"`
	PushedAuthorizationRequestEndpoint                 string   `json:"pushed_authorization_request_endpoint,omitempty"`
	RequirePushedAuthorizationRequests                 bool     `json:"require_pushed_authorization_requests,omitempty"`
	UserinfoEndpoint                                   string   `json:"userinfo_endpoint,omitempty"`
	JWKSURI                                            string   `json:"jwks_uri,omitempty"`
	RegistrationEndpoint                               string   `json:"registration_endpoint,omitempty"`
	IntrospectionEndpoint                              string   `json:"introspection_endpoint,omitempty"`
	RevocationEndpoint                                 string   `json:"revocation_endpoint,omitempty"`
	GlobalTokenRevocationEndpoint                      string   `json:"global_token_revocation_endpoint,omitempty"`
	GlobalTokenRevocationEndpointAuthMethodsSupported  []string `json:"global_token_revocation_endpoint_auth_methods_supported,omitempty"`
	DeviceAuthorizationEndpoint                        string   `json:"device_authorization_endpoint,omitempty"`
	BackchannelAuthenticationEndpoint                  string   `json:"backchannel_authentication_endpoint,omitempty"`
	EndSessionEndpoint                                 string   `json:"end_session_endpoint,omitempty"`
	ScopesSupported                                    []string `json:"scopes_supported,omitempty"`
	ResponseTypesSupported                             []string `json:"response_types_supported"`
	ResponseModesSupported                             []string `json:"response_modes_supported,omitempty"`
	GrantTypesSupported                                []string `json:"grant_types_supported,omitempty"`
	ACRValuesSupported                                 []string `json:"acr_values_supported,omitempty"`
	SubjectTypesSupported                              []string `json:"subject_types_supported,omitempty"`
	IDTokenSigningAlgValuesSupported                   []string `json:"id_token_signing_alg_values_supported,omitempty"`
	TokenEndpointAuthMethodsSupported                  []string `json:"token_endpoint_auth_methods_supported,omitempty"`
	TokenEndpointAuthSigningAlgValuesSupported         []string `json:"token_endpoint_auth_signing_alg_values_supported,omitempty"`
	IntrospectionEndpointAuthMethodsSupported          []string `json:"introspection_endpoint_auth_methods_supported,omitempty"`
	IntrospectionEndpointAuthSigningAlgValuesSupported []string `json:"introspection_endpoint_auth_signing_alg_values_supported,omitempty"`
	RevocationEndpointAuthMethodsSupported             []string `json:"revocation_endpoint_auth_methods_supported,omitempty"`
	RevocationEndpointAuthSigningAlgValuesSupported    []string `json:"revocation_endpoint_auth_signing_alg_values_supported,omitempty"`
	IDTokenEncryptionAlgValuesSupported                []string `json:"id_token_encryption_alg_values_supported,omitempty"`
	IDTokenEncryptionEncValuesSupported                []string `json:"id_token_encryption_enc_values_supported,omitempty"`
	AuthorizationSigningAlgValuesSupported             []string `json:"authorization_signing_alg_values_supported,omitempty"`
	AuthorizationEncryptionAlgValuesSupported          []string `json:"authorization_encryption_alg_values_supported,omitempty"`
	AuthorizationEncryptionEncValuesSupported          []string `json:"authorization_encryption_enc_values_supported,omitempty"`
	IntrospectionSigningAlgValuesSupported             []string `json:"introspection_signing_alg_values_supported,omitempty"` // RFC 9701, section 7
	IntrospectionEncryptionAlgValuesSupported          []string `json:"introspection_encryption_alg_values_supported,omitempty"`
	IntrospectionEncryptionEncValuesSupported          []string `json:"introspection_encryption_enc_values_supported,omitempty"`
	UserinfoSigningAlgValuesSupported                  []string `json:"userinfo_signing_alg_values_supported,omitempty"`
	UserinfoEncryptionAlgValuesSupported               []string `json:"userinfo_encryption_alg_values_supported,omitempty"`
	UserinfoEncryptionEncValuesSupported               []string `json:"userinfo_encryption_enc_values_supported,omitempty"`
	RequestObjectSigningAlgValuesSupported             []string `json:"request_object_signing_alg_values_supported,omitempty"`
	RequestObjectEncryptionAlgValuesSupported          []string `json:"request_object_encryption_alg_values_supported,omitempty"`
	RequestObjectEncryptionEncValuesSupported          []string `json:"request_object_encryption_enc_values_supported,omitempty"`
	RequireSignedRequestObject                         bool     `json:"require_signed_request_object,omitempty"`
	RequireRequestURIRegistration                      bool     `json:"require_request_uri_registration,omitempty"`
	DPoPSigningAlgValuesSupported                      []string `json:"dpop_signing_alg_values_supported,omitempty"` // RFC 9449, section 5.1
	CodeChallengeMethodsSupported                      []string `json:"code_challenge_methods_supported,omitempty"`
	ClaimTypesSupported                                []string `json:"claim_types_supported,omitempty"`
	ClaimsSupported                                    []string `json:"claims_supported,omitempty"`
	ClaimsParameterSupported                           bool     `json:"claims_parameter_supported"`
	RequestParameterSupported                          bool     `json:"request_parameter_supported"`
	// RequestURIParameterSupported has no omitempty: in OpenID Connect Discovery, an
	// omitted member means true.
	RequestURIParameterSupported               bool `json:"request_uri_parameter_supported"`
	AuthorizationResponseIssParameterSupported bool `json:"authorization_response_iss_parameter_supported,omitempty"`
	ClientIDMetadataDocumentSupported          bool `json:"client_id_metadata_document_supported,omitempty"`
	// TLSClientCertificateBoundAccessTokens says that access tokens can be bound to client
	// certificates (RFC 8705, section 3.3). MTLSEndpointAliases are the endpoints for clients that
	// use a certificate, by the names of the members (section 5).
	TLSClientCertificateBoundAccessTokens bool              `json:"tls_client_certificate_bound_access_tokens,omitempty"`
	MTLSEndpointAliases                   map[string]string `json:"mtls_endpoint_aliases,omitempty"`
	UILocalesSupported                    []string          `json:"ui_locales_supported,omitempty"`
	PromptValuesSupported                 []string          `json:"prompt_values_supported,omitempty"`
	AuthorizationDetailsTypesSupported    []string          `json:"authorization_details_types_supported,omitempty"`
	RefreshTokenExpirationTypesSupported  []string          `json:"refresh_token_expiration_types_supported,omitempty"`
	ClaimsLocalesSupported                []string          `json:"claims_locales_supported,omitempty"`
	DisplayValuesSupported                []string          `json:"display_values_supported,omitempty"`
	CheckSessionIframe                    string            `json:"check_session_iframe,omitempty"`
	BackchannelLogoutSupported            bool              `json:"backchannel_logout_supported,omitempty"`
	BackchannelLogoutSessionSupported     bool              `json:"backchannel_logout_session_supported,omitempty"`
	FrontchannelLogoutSupported           bool              `json:"frontchannel_logout_supported,omitempty"`
	FrontchannelLogoutSessionSupported    bool              `json:"frontchannel_logout_session_supported,omitempty"`
	// OpenID Connect CIBA Core, section 4.
	BackchannelTokenDeliveryModesSupported                    []string `json:"backchannel_token_delivery_modes_supported,omitempty"`
	BackchannelAuthenticationRequestSigningAlgValuesSupported []string `json:"backchannel_authentication_request_signing_alg_values_supported,omitempty"`
	BackchannelUserCodeParameterSupported                     bool     `json:"backchannel_user_code_parameter_supported,omitempty"`
	// draft-ietf-oauth-identity-assertion-authz-grant, section 7.1.
	IdentityChainingRequestedTokenTypesSupported []string `json:"identity_chaining_requested_token_types_supported,omitempty"`
	// The same draft, section 7.2.
	AuthorizationGrantProfilesSupported []string `json:"authorization_grant_profiles_supported,omitempty"`
	OPPolicyURI                         string   `json:"op_policy_uri,omitempty"`
	OPTOSURI                            string   `json:"op_tos_uri,omitempty"`
	ServiceDocumentation                string   `json:"service_documentation,omitempty"`
}

// ProtectedResourceMetadata describes an API (RFC 9728, section 2).
type ProtectedResourceMetadata struct {
	Resource               string   `json:"resource"`
	AuthorizationServers   []string `json:"authorization_servers,omitempty"`
	JWKSURI                string   `json:"jwks_uri,omitempty"`
	ScopesSupported        []string `json:"scopes_supported,omitempty"`
	BearerMethodsSupported []string `json:"bearer_methods_supported,omitempty"`
	ResourceName           string   `json:"resource_name,omitempty"`
	ResourceDocumentation  string   `json:"resource_documentation,omitempty"`
	// TLSClientCertificateBoundAccessTokens says that the API accepts tokens that are bound to a
	// client certificate (RFC 8705, section 3).
	TLSClientCertificateBoundAccessTokens bool `json:"tls_client_certificate_bound_access_tokens,omitempty"`
	// The algorithms of DPoP proofs, and whether access tokens must be bound to their key.
	DPoPSigningAlgValuesSupported []string `json:"dpop_signing_alg_values_supported,omitempty"`
	DPoPBoundAccessTokensRequired bool     `json:"dpop_bound_access_tokens_required,omitempty"`
}

// WellKnownURL inserts a well-known suffix between the host and the path of an identifier
// (RFC 8414, section 3.1; RFC 9728, section 3.1).
func WellKnownURL(identifier, suffix string) (string, error) {
	u, err := url.Parse(identifier)
	if err != nil {
		return "", err
	}
	u.Path = suffix + strings.TrimSuffix(u.Path, "/")
	u.RawPath = ""
	return u.String(), nil
}

package oauth

// ClientInformation is the response to a client that registers itself, or reads or changes
// its registration (RFC 7591, section 3.2.1; RFC 7592, section 3).
type ClientInformation struct {
	ClientID         string `json:"client_id"`
	ClientSecret     string `json:"client_secret,omitempty"`
	ClientIDIssuedAt int64  `json:"client_id_issued_at,omitempty"` // Unix seconds
	// ClientSecretExpiresAt is in Unix seconds, 0 if the secret does not expire, and nil if
	// there is none.
	ClientSecretExpiresAt *int64 `json:"client_secret_expires_at,omitempty"`
	// RegistrationAccessToken allows reading, changing and deleting the registration at
	// RegistrationClientURI.
	RegistrationAccessToken string `json:"registration_access_token,omitempty"`
	RegistrationClientURI   string `json:"registration_client_uri,omitempty"`
	SoftwareStatement       string `json:"software_statement,omitempty"`
	ClientMetadata
}

package record

import "slices"

// Scope is a scope that clients may request.
type Scope struct {
	Name string `json:"name"`
	// Description tells the user in plain words what the scope allows.
	Description string `json:"description,omitempty"`
	// Claims are released by the scope at the UserInfo endpoint.
	Claims []string `json:"claims,omitempty"`
	// Optional lets the user deselect it on the consent page.
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
	// Name is shown to users.
	Name string `json:"name,omitempty"`
	// Scopes are those that the API understands; an access token for it has no others, except
	// those of OpenID Connect.
	Scopes []string `json:"scopes,omitempty"`
	// AccessTokenFormat is AccessTokenJWT (also "") or AccessTokenOpaque.
	AccessTokenFormat string `json:"access_token_format,omitempty"`
	// IntrospectionClients are the client_ids with which the API introspects; the client
	// whose client_id is the Identifier always may.
	IntrospectionClients []string `json:"introspection_clients,omitempty"`
	// AccessTokenLifetime is at most MaxOwnLifetime. If it is zero, the lifetime of the client
	// or the server's applies.
	AccessTokenLifetime Duration `json:"access_token_lifetime,omitzero"`
	// StatusList adds to JWT access tokens for the API a reference to the status list that
	// says whether they were revoked (draft-ietf-oauth-status-list).
	StatusList bool `json:"status_list,omitempty"`
	// AccessTokenClaims are claims about the user in access tokens for the API.
	AccessTokenClaims []string `json:"access_token_claims,omitempty"`
}

// MayIntrospect reports whether a client may introspect tokens for the API.
func (r *Resource) MayIntrospect(clientID string) bool {
	return r.Identifier == clientID || slices.Contains(r.IntrospectionClients, clientID)
}

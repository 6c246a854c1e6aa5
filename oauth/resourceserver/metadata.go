package resourceserver

import (
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/valetkey/valetkey/oauth"
)

// MetadataPath returns the path at which Metadata must be served: the well-known suffix,
// followed by the path of the resource (RFC 9728, section 3.1).
func (s *ResourceServer) MetadataPath() string {
	u, err := url.Parse(s.metadataURL)
	if err != nil || s.metadataURL == "" {
		return oauth.WellKnownProtectedResource
	}
	return u.Path
}

// Metadata serves the API's metadata (RFC 9728, section 2). Clients use it to find the
// authorization server.
func (s *ResourceServer) Metadata() http.Handler {
	document, err := json.Marshal(oauth.ProtectedResourceMetadata{
		Resource: s.config.Resource, AuthorizationServers: s.issuerNames(),
		ScopesSupported: s.config.ScopesSupported, BearerMethodsSupported: []string{"header"},
		TLSClientCertificateBoundAccessTokens: s.config.RequireCertificateBoundTokens || s.config.ClientCertificates != nil,
		DPoPSigningAlgValuesSupported:         s.proofs.announcedAlgorithms(),
		DPoPBoundAccessTokensRequired:         s.proofs.required(),
		ResourceName:                          s.config.Name, ResourceDocumentation: s.config.Documentation,
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.config.Resource == "" {
			http.NotFound(w, r)
			return
		}
		if err != nil { // cannot happen: it contains only strings
			http.Error(w, "The metadata could not be encoded.", http.StatusInternalServerError)
			return
		}
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Cache-Control", "public, max-age=3600")
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(document)
	})
}

// issuerNames returns the authorization servers in the order of the configuration.
func (s *ResourceServer) issuerNames() []string {
	var names []string
	if s.main != nil {
		names = append(names, s.config.Issuer)
	}
	for _, other := range s.config.Issuers {
		names = append(names, other.Issuer)
	}
	return names
}

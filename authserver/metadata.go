package authserver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/valetkey/valetkey/jose"
	"github.com/valetkey/valetkey/oauth"
)

// metadata serves the document of RFC 8414 and of OpenID Connect Discovery, which are one.
func (c *call) metadata() error {
	catalogue, err := c.s.catalogue(c.r.Context())
	if err != nil {
		if catalogue = c.s.catalogueNow.Load(); catalogue == nil {
			return err
		}
	}
	c.writeDocument("application/json", cacheMetadata, catalogue.metadata)
	return nil
}

// newMetadata derives the document from the tables that the endpoints work by.
func (s *Server) newMetadata(catalogue *catalogue) ([]byte, error) {
	var algorithms []string
	for _, alg := range signingAlgorithms() {
		algorithms = append(algorithms, string(alg))
	}
	var methods, grants, modes []string
	for _, m := range clientAuthMethods() {
		methods = append(methods, m.name)
	}
	for _, g := range grantTypes() {
		grants = append(grants, g.name)
	}
	for _, m := range responseModes() {
		modes = append(modes, m.name)
	}
	authenticated := slices.DeleteFunc(slices.Clone(methods), func(m string) bool { return m == oauth.AuthMethodNone })
	assertionAlgorithms := slices.Concat(algorithms, []string{string(jose.HS256), string(jose.HS384), string(jose.HS512)})
	m := oauth.ServerMetadata{
		Issuer:                                             s.config.Issuer,
		ScopesSupported:                                    catalogue.scopeNames,
		ResponseTypesSupported:                             []string{responseTypeCode},
		ResponseModesSupported:                             modes,
		GrantTypesSupported:                                grants,
		ACRValuesSupported:                                 s.config.ACRValues,
		SubjectTypesSupported:                              []string{"public"},
		IDTokenSigningAlgValuesSupported:                   algorithms,
		TokenEndpointAuthMethodsSupported:                  methods,
		TokenEndpointAuthSigningAlgValuesSupported:         assertionAlgorithms,
		IntrospectionEndpointAuthMethodsSupported:          authenticated,
		IntrospectionEndpointAuthSigningAlgValuesSupported: assertionAlgorithms,
		RevocationEndpointAuthMethodsSupported:             methods,
		RevocationEndpointAuthSigningAlgValuesSupported:    assertionAlgorithms,
		CodeChallengeMethodsSupported:                      []string{oauth.CodeChallengeMethodS256},
		ClaimTypesSupported:                                []string{"normal"},
		ClaimsSupported:                                    catalogue.claimNames(),
		ClaimsParameterSupported:                           true,
		AuthorizationResponseIssParameterSupported:         true,
		PromptValuesSupported:                              supportedPrompts(),
	}
	for _, e := range endpoints() {
		if e.metadata != nil {
			e.metadata(&m, s.config.Issuer+e.path)
		}
	}
	document, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode metadata: %w", err)
	}
	return document, nil
}

// claimNames lists the claims that some scope releases, and those of the protocol that
// clients look for.
func (c *catalogue) claimNames() []string {
	names := []string{"sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "azp"}
	for _, scope := range c.scopeNames {
		for _, claim := range c.scopes[scope].Claims {
			if !slices.Contains(names, claim) {
				names = append(names, claim)
			}
		}
	}
	return names
}

var (
	cacheJWKS     = []string{"public, max-age=" + strconv.Itoa(int(jwksMaxAge.Seconds()))}
	cacheMetadata = []string{"public, max-age=" + strconv.Itoa(int(metadataMaxAge.Seconds()))}
)

func (c *call) writeDocument(contentType string, cache []string, body []byte) {
	c.w.Header()["Cache-Control"] = cache
	writeBytes(c.w, http.StatusOK, contentType, body)
}

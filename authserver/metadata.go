package authserver

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

// metadata serves the metadata document. It is the same for RFC 8414 and OpenID Connect
// Discovery.
func (c *call) metadata() error {
	catalogue, err := c.s.catalogue(c.r.Context())
	if err != nil {
		if catalogue = c.s.catalogueNow.Load(); catalogue == nil {
			return err
		}
	}
	catalogue.metadata.write(c.w)
	return nil
}

// newMetadata generates the document from the tables of endpoints, grant types and methods.
func (s *Server) newMetadata(catalogue *catalogue) (*document, error) {
	body, err := json.Marshal(s.describe(catalogue))
	if err != nil {
		return nil, fmt.Errorf("encode metadata: %w", err)
	}
	return newDocument("application/json", metadataMaxAge, body), nil
}

// describe returns the metadata of this server.
func (s *Server) describe(catalogue *catalogue) *oauth.ServerMetadata {
	var methods, grants, modes []string
	for _, m := range clientAuthMethods() {
		if m.offered == nil || m.offered(s) {
			methods = append(methods, m.name)
		}
	}
	for _, g := range s.grantTypes {
		if g.offeredBy(s) {
			grants = append(grants, g.name)
		}
	}
	if slices.ContainsFunc(catalogue.clientNeeds.responseTypes, func(name string) bool {
		t, _ := oauth.ParseResponseType(name)
		return t.FrontChannel()
	}) {
		grants = append(grants, oauth.GrantTypeImplicit)
	}
	modes = append(modes, responseModeNames()...)
	authenticated := slices.DeleteFunc(slices.Clone(methods), func(m string) bool { return m == oauth.AuthMethodNone })
	secretAlgorithms := []string{string(jose.HS256), string(jose.HS384), string(jose.HS512)}
	assertionAlgorithms := slices.Concat(algorithmNames(signingAlgorithms()), secretAlgorithms)
	signatures := slices.Concat(algorithmNames(catalogue.clientNeeds.offeredAlgorithms()), secretAlgorithms)
	idTokens, requestObjects := slices.Clone(signatures), clientAlgorithms()
	if catalogue.clientNeeds.unsignedIDTokens {
		idTokens = append(idTokens, string(algorithmNone))
	}
	if catalogue.clientNeeds.unsignedRequests {
		requestObjects = append(requestObjects, string(algorithmNone))
	}
	m := oauth.ServerMetadata{
		Issuer:                                             s.config.Issuer,
		ScopesSupported:                                    catalogue.scopeNames,
		ResponseTypesSupported:                             catalogue.clientNeeds.responseTypes,
		ResponseModesSupported:                             modes,
		GrantTypesSupported:                                grants,
		ACRValuesSupported:                                 s.config.SignIn.ACRValues,
		SubjectTypesSupported:                              []string{subjectPublic, subjectPairwise},
		IDTokenSigningAlgValuesSupported:                   idTokens,
		IDTokenEncryptionAlgValuesSupported:                algorithmNames(encryptionAlgorithms()),
		IDTokenEncryptionEncValuesSupported:                algorithmNames(jose.Encryptions()),
		AuthorizationSigningAlgValuesSupported:             signatures,
		AuthorizationEncryptionAlgValuesSupported:          algorithmNames(encryptionAlgorithms()),
		AuthorizationEncryptionEncValuesSupported:          algorithmNames(jose.Encryptions()),
		IntrospectionSigningAlgValuesSupported:             signatures,
		IntrospectionEncryptionAlgValuesSupported:          algorithmNames(encryptionAlgorithms()),
		IntrospectionEncryptionEncValuesSupported:          algorithmNames(jose.Encryptions()),
		UserinfoSigningAlgValuesSupported:                  signatures,
		UserinfoEncryptionAlgValuesSupported:               algorithmNames(encryptionAlgorithms()),
		UserinfoEncryptionEncValuesSupported:               algorithmNames(jose.Encryptions()),
		RequestObjectEncryptionAlgValuesSupported:          s.requestEncryption(catalogue),
		RequestObjectEncryptionEncValuesSupported:          algorithmNames(jose.Encryptions()),
		TokenEndpointAuthMethodsSupported:                  methods,
		TokenEndpointAuthSigningAlgValuesSupported:         assertionAlgorithms,
		IntrospectionEndpointAuthMethodsSupported:          authenticated,
		IntrospectionEndpointAuthSigningAlgValuesSupported: assertionAlgorithms,
		RevocationEndpointAuthMethodsSupported:             methods,
		RevocationEndpointAuthSigningAlgValuesSupported:    assertionAlgorithms,
		DPoPSigningAlgValuesSupported:                      algorithmNames(proofAlgorithms()),
		ClientAttestationSigningAlgValuesSupported:         algorithmNames(signingAlgorithms()),
		ClientAttestationPoPSigningAlgValuesSupported:      algorithmNames(signingAlgorithms()),
		CodeChallengeMethodsSupported:                      []string{oauth.CodeChallengeMethodS256},
		ClaimTypesSupported:                                s.claimTypes(),
		ClaimsSupported:                                    s.claimNames(catalogue),
		ClaimsParameterSupported:                           true,
		RequestParameterSupported:                          true,
		RequestURIParameterSupported:                       true,
		RequireRequestURIRegistration:                      true,
		RequestObjectSigningAlgValuesSupported:             requestObjects,
		RequireSignedRequestObject:                         s.config.RequireSignedRequestObject,
		RequirePushedAuthorizationRequests:                 s.config.RequirePushedAuthorizationRequests,
		AuthorizationResponseIssParameterSupported:         true,
		UILocalesSupported:                                 s.config.Pages.UILocales,
		PromptValuesSupported:                              s.supportedPrompts(),
		DisplayValuesSupported:                             displays(),
		AuthorizationDetailsTypesSupported:                 slices.Sorted(maps.Keys(s.detailsTypes)),
	}
	if slices.Contains(grants, oauth.GrantTypeRefreshToken) {
		m.RefreshTokenExpirationTypesSupported = []string{"authorization", "token_timeout"}
	}
	m.ClientIDMetadataDocumentSupported = s.config.MetadataDocuments.on()
	for _, e := range s.endpoints() {
		if e.metadata != nil {
			e.metadata(&m, s.config.Issuer+e.path)
		}
	}
	m.TLSClientCertificateBoundAccessTokens = s.offersMutualTLS()
	m.MTLSEndpointAliases = s.mutualTLSAliases()
	if slices.ContainsFunc(s.config.TokenExchange, func(r TokenExchangeRule) bool { return r.issues(oauth.TokenTypeIDJAG) }) {
		m.IdentityChainingRequestedTokenTypesSupported = []string{oauth.TokenTypeIDJAG}
	}
	if s.trusts(UseIdentityAssertion) {
		m.AuthorizationGrantProfilesSupported = []string{oauth.GrantProfileIDJAG}
	}
	m.BackchannelTokenDeliveryModesSupported = []string{oauth.DeliveryPoll, oauth.DeliveryPing, oauth.DeliveryPush}
	m.BackchannelUserCodeParameterSupported = true
	m.BackchannelAuthenticationRequestSigningAlgValuesSupported = algorithmNames(signingAlgorithms())
	m.BackchannelLogoutSupported, m.BackchannelLogoutSessionSupported = true, true
	m.FrontchannelLogoutSupported, m.FrontchannelLogoutSessionSupported = true, true
	if s.config.SignIn.BrowserStateCookie == "" {
		m.CheckSessionIframe = ""
	}
	s.profile.limitMetadata(&m)
	return &m
}

// requestEncryption returns the algorithms for request objects that are encrypted to this server:
// those with the client's secret, and those of keys that exist or are created when a client
// registers for them.
func (s *Server) requestEncryption(catalogue *catalogue) []string {
	names := algorithmNames(jose.SecretEncryptionAlgorithms())
	for _, alg := range decryptionAlgorithms() {
		if s.registrationPolicy.on() || s.config.MetadataDocuments.on() || slices.Contains(catalogue.clientNeeds.algorithms, alg) {
			names = append(names, string(alg))
		}
	}
	return names
}

// document is a public response that is the same for all callers. Its header fields are computed
// once.
type document struct {
	body                       []byte
	contentType, length, cache []string
}

func newDocument(contentType string, maxAge time.Duration, body []byte) *document {
	return &document{
		body: body, contentType: []string{contentType}, length: []string{strconv.Itoa(len(body))},
		cache: []string{"public, max-age=" + strconv.Itoa(int(maxAge.Seconds()))},
	}
}

func (d *document) write(w http.ResponseWriter) {
	h := w.Header()
	h["Cache-Control"] = d.cache
	h["Content-Type"] = d.contentType
	h["Content-Length"] = d.length
	h["X-Content-Type-Options"] = valueNosniff
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(d.body) // an error means that the client has disconnected
}

package authserver

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/record"
)

// Profiles by name. A profile is data: what a client may be registered for, settings that it
// implies, and requirements on requests, each with the section that states it. The rules of the
// engine read it from the client. A new profile is a row of profiles.

// The names of the profiles.
const (
	ProfileOAuth20             = "oauth2.0"
	ProfileOAuth21             = "oauth2.1" // the default
	ProfileFAPI1Advanced       = "fapi1-advanced"
	ProfileFAPICIBA            = "fapi-ciba"
	ProfileFAPI2               = "fapi2"
	ProfileFAPI2MessageSigning = "fapi2-message-signing"
)

// Methods of sender-constraining tokens.
const (
	boundByDPoP        = "DPoP"
	boundByCertificate = "mutual TLS"
)

// The kinds of redirect URIs.
const (
	redirectHTTPS    = "https"
	redirectLoopback = "http on loopback for native clients"
	redirectPrivate  = "private-use schemes"
)

// profile is one profile. A requirement without a section does not apply.
type profile struct {
	name string
	// strictness orders the profiles: a client's must not be lower than the server's.
	strictness int

	// What a client may be registered for.
	authMethods   choice[string]
	grantTypes    choice[string] // others are refused, except extension grants
	responseTypes choice[string]
	redirectURIs  choice[string] // redirectHTTPS and others
	// signatures are the algorithms of JWTs that the client or this server signs.
	signatures choice[jose.Algorithm]
	// noInsecureSettings refuses the settings that begin with insecure_, and first_party.
	noInsecureSettings requirement

	// Settings of the client.
	pushedRequests requirement // require_pushed_authorization_requests
	signedRequests requirement // require_signed_request_object
	codeChallenge  requirement // require_code_challenge
	noRotation     requirement // refresh_token_reuse
	// signedResponseAlg is the default of the algorithms with which this server signs.
	signedResponseAlg jose.Algorithm
	responseModes     choice[string]

	// Requirements on requests. noCodeChallenge and anyAudience relax the defaults, like
	// insecure_no_code_challenge and insecure_assertion_audience.
	noCodeChallenge, anyAudience bool

	boundTokens         choice[string]
	stringAudience      requirement // aud of a client assertion is a string
	requestObject       requestObjectTimes
	redirectURI         requirement    // redirect_uri is sent
	scope               requirement    // scope is sent
	codeChallengePushed requirement    // PKCE in pushed requests
	codeInJWT           requirement    // response_type code with response_mode jwt only
	nonceOrState        requirement    // nonce of OpenID Connect requests, state of others
	stateHash           requirement    // s_hash in ID tokens of the authorization response
	deliveryModes       choice[string] // of backchannel authentication
	bindingMessage      requirement    // binding_message, or authorization_details
	codeLifetime        lifetimeLimit
	requestURILifetime  lifetimeLimit
	proofAhead          lifetimeLimit // how far iat of a DPoP proof may be in the future
}

// requirement is the section that states a requirement; "" if a profile does not have it.
type requirement string

func (r requirement) applies() bool { return r != "" }

// choice are the values that a profile allows; without a section, all.
type choice[T comparable] struct {
	section requirement
	values  []T
}

func (c choice[T]) allows(value T) bool {
	return !c.section.applies() || slices.Contains(c.values, value)
}

// lifetimeLimit is the longest lifetime that a profile allows; zero means no limit.
type lifetimeLimit struct {
	section requirement
	most    time.Duration
}

func (l lifetimeLimit) limit(d time.Duration) time.Duration { return shorter(d, l.most) }

// profiles is the table of profiles.
func profiles() []*profile {
	oauth20 := profile{name: ProfileOAuth20, noCodeChallenge: true, anyAudience: true}
	oauth21 := profile{name: ProfileOAuth21, strictness: 1}

	fapi1 := profile{
		name: ProfileFAPI1Advanced, strictness: 2,
		authMethods: choice[string]{"FAPI 1.0 Advanced, section 5.2.2, clause 14", []string{
			oauth.AuthMethodPrivateKeyJWT, oauth.AuthMethodTLSClient, oauth.AuthMethodSelfSignedTLS,
		}},
		grantTypes:          choice[string]{"FAPI 1.0 Advanced, section 5.2.2, clause 2", append(secureGrantTypes(), oauth.GrantTypeImplicit)},
		responseTypes:       choice[string]{"FAPI 1.0 Advanced, section 5.2.2, clause 2", []string{"code", "code id_token"}},
		redirectURIs:        choice[string]{"FAPI 1.0 Baseline, section 7.5", []string{redirectHTTPS}},
		signatures:          choice[jose.Algorithm]{"FAPI 1.0 Advanced, section 8.6", []jose.Algorithm{jose.PS256, jose.ES256}},
		noInsecureSettings:  "FAPI 1.0 Advanced, section 5.2.2",
		signedRequests:      "FAPI 1.0 Advanced, section 5.2.2, clause 1",
		signedResponseAlg:   jose.ES256,
		anyAudience:         true,
		boundTokens:         choice[string]{"FAPI 1.0 Advanced, section 5.2.2, clauses 5 and 6", []string{boundByCertificate}},
		requestObject:       requestObjectTimes{section: "FAPI 1.0 Advanced, section 5.2.2, clauses 13 and 17", maxAge: time.Hour, maxLife: time.Hour},
		redirectURI:         "FAPI 1.0 Baseline, section 5.2.2",
		scope:               "FAPI 1.0 Advanced, section 5.2.2, clause 10",
		codeChallengePushed: "FAPI 1.0 Advanced, section 5.2.2, clause 18",
		codeInJWT:           "FAPI 1.0 Advanced, section 5.2.2, clause 2",
		nonceOrState:        "FAPI 1.0 Baseline, sections 5.2.2.2 and 5.2.2.3",
		stateHash:           "FAPI 1.0 Advanced, section 5.2.2.1, clause 5",
	}

	ciba := fapi1
	ciba.name = ProfileFAPICIBA
	ciba.bindingMessage = "FAPI-CIBA, section 5.2.2, clause 2"
	ciba.deliveryModes = choice[string]{"FAPI-CIBA, section 5.2.2, clause 3", []string{oauth.DeliveryPoll, oauth.DeliveryPing}}

	fapi2 := profile{
		name: ProfileFAPI2, strictness: 2,
		authMethods: choice[string]{"FAPI 2.0 Security Profile, section 5.3.2.1, clause 6", []string{
			oauth.AuthMethodPrivateKeyJWT, oauth.AuthMethodTLSClient, oauth.AuthMethodSelfSignedTLS,
		}},
		grantTypes:    choice[string]{"FAPI 2.0 Security Profile, section 5.3.2.1, clause 2", secureGrantTypes()},
		responseTypes: choice[string]{"FAPI 2.0 Security Profile, section 5.3.2.2, clause 1", []string{"code"}},
		redirectURIs:  choice[string]{"FAPI 2.0 Security Profile, section 5.3.2.2, clause 8", []string{redirectHTTPS, redirectLoopback, redirectPrivate}},
		signatures: choice[jose.Algorithm]{"FAPI 2.0 Security Profile, section 5.4.1, clause 1", []jose.Algorithm{
			jose.PS256, jose.ES256, jose.EdDSA, jose.Ed25519,
		}},
		noInsecureSettings: "FAPI 2.0 Security Profile, section 5.3.2",
		pushedRequests:     "FAPI 2.0 Security Profile, section 5.3.2.2, clause 3",
		codeChallenge:      "FAPI 2.0 Security Profile, section 5.3.2.2, clause 5",
		noRotation:         "FAPI 2.0 Security Profile, section 5.3.2.1, clause 9",
		signedResponseAlg:  jose.ES256,
		boundTokens:        choice[string]{"FAPI 2.0 Security Profile, section 5.3.2.1, clauses 4 and 5", []string{boundByDPoP, boundByCertificate}},
		stringAudience:     "FAPI 2.0 Security Profile, section 5.3.2.1, clause 8",
		requestObject:      requestObjectTimes{section: "FAPI 2.0 Message Signing, section 5.3.1, clauses 3 and 4", maxAge: time.Hour, maxLife: time.Hour},
		redirectURI:        "FAPI 2.0 Security Profile, section 5.3.2.2, clause 6",
		codeLifetime:       lifetimeLimit{"FAPI 2.0 Security Profile, section 5.3.2.1, clause 11", time.Minute},
		requestURILifetime: lifetimeLimit{"FAPI 2.0 Security Profile, section 5.3.2.2, clause 12", 599 * time.Second},
		proofAhead:         lifetimeLimit{"FAPI 2.0 Security Profile, section 5.3.2.1, clause 13", time.Minute},
	}

	signing := fapi2
	signing.name, signing.strictness = ProfileFAPI2MessageSigning, 3
	signing.signedRequests = "FAPI 2.0 Message Signing, section 5.3.1, clause 1"
	signing.responseModes = choice[string]{"FAPI 2.0 Message Signing, section 5.4.1, clause 1", []string{
		modeJWT, "query" + jwtSuffix, "fragment" + jwtSuffix, "form_post" + jwtSuffix,
	}}

	return []*profile{&oauth20, &oauth21, &fapi1, &ciba, &fapi2, &signing}
}

// secureGrantTypes are the grant types of this server other than password and implicit.
func secureGrantTypes() []string {
	var names []string
	for _, g := range grantTypes() {
		if g.name != oauth.GrantTypePassword {
			names = append(names, g.name)
		}
	}
	return names
}

// Profiles returns the names of the profiles, the weakest first.
func Profiles() []string {
	var names []string
	for _, p := range profiles() {
		names = append(names, p.name)
	}
	return names
}

// profileNamed returns a profile; nil if there is none. "" is the default.
func profileNamed(name string) *profile {
	if name == "" {
		name = ProfileOAuth21
	}
	for _, p := range profiles() {
		if p.name == name {
			return p
		}
	}
	return nil
}

// preset gives the client the settings that the profile implies, and the profile's defaults.
func (p *profile) preset(c *record.Client) {
	c.RequirePushedAuthorizationRequests = c.RequirePushedAuthorizationRequests || p.pushedRequests.applies()
	c.RequireSignedRequestObject = c.RequireSignedRequestObject || p.signedRequests.applies()
	c.RequireCodeChallenge = c.RequireCodeChallenge || p.codeChallenge.applies()
	c.RefreshTokenReuse = c.RefreshTokenReuse || p.noRotation.applies()
	if c.ResponseModes == nil && p.responseModes.section.applies() {
		c.ResponseModes = p.responseModes.values
	}
	if p.boundTokens.section.applies() && !p.boundTokens.allows(boundByDPoP) {
		c.TLSClientCertificateBoundAccessTokens = true
	}
	if p.signedResponseAlg != "" {
		for _, member := range [...]*string{&c.IDTokenSignedResponseAlg, &c.AuthorizationSignedResponseAlg, &c.IntrospectionSignedResponseAlg} {
			if *member == "" {
				*member = string(p.signedResponseAlg)
			}
		}
	}
}

// ProfileFinding is one requirement of a profile, and whether a client meets it.
type ProfileFinding struct {
	// Rule is the requirement, and Section states it.
	Rule    string `json:"rule"`
	Section string `json:"section"`
	Met     bool   `json:"met"`
	// Imposed says that the server requires it of each request of a client with the profile. The
	// settings of the client do not decide it, but the application may have to change.
	Imposed bool `json:"imposed,omitempty"`
	// Member is the member of the client that decides it; "" if none does.
	Member string `json:"member,omitempty"`
	// Problem says what to change, if the requirement is not met.
	Problem string `json:"problem,omitempty"`
}

// profileFindings collects findings.
type profileFindings struct {
	found []ProfileFinding
}

// add adds a finding about a member, if the profile has the requirement.
func (f *profileFindings) add(section requirement, rule, member, problem string) {
	if section.applies() {
		f.found = append(f.found, ProfileFinding{Rule: rule, Section: string(section), Met: problem == "", Member: member, Problem: problem})
	}
}

// imposed adds a requirement on each request, if the profile has it.
func (f *profileFindings) imposed(section requirement, rule string) {
	if section.applies() {
		f.found = append(f.found, ProfileFinding{Rule: rule, Section: string(section), Met: true, Imposed: true})
	}
}

// findings compares a client with the profile. The client has its settings as they were declared.
func (p *profile) findings(declared *record.Client) []ProfileFinding {
	c := *declared
	p.preset(&c)
	c.ClientMetadata = c.ClientMetadata.WithDefaults()
	var f profileFindings
	allowed := func(member string, values []string, choice choice[string]) {
		problem := ""
		for _, value := range values {
			if !choice.allows(value) {
				problem = fmt.Sprintf("%q is not one of %s", value, strings.Join(choice.values, ", "))
				break
			}
		}
		f.add(choice.section, member+" is allowed", member, problem)
	}
	allowed("token_endpoint_auth_method", []string{c.TokenEndpointAuthMethod}, p.authMethods)
	allowed("grant_types", slices.DeleteFunc(slices.Clone(c.GrantTypes), IsExtensionGrant), p.grantTypes)
	allowed("response_types", c.ResponseTypes, p.responseTypes)
	allowed("response_modes", c.ResponseModes, p.responseModes)
	if c.HasGrantType(oauth.GrantTypeCIBA) {
		allowed("backchannel_token_delivery_mode", []string{c.BackchannelTokenDeliveryMode}, p.deliveryModes)
		problem := ""
		if c.BackchannelAuthenticationRequestSigningAlg == "" {
			problem = "set it"
		}
		f.add(p.signedRequests, "backchannel authentication requests are signed", "backchannel_authentication_request_signing_alg", problem)
		f.imposed(p.bindingMessage, "a backchannel authentication request has binding_message or authorization_details")
	}
	p.checkRedirects(&f, &c)
	p.checkAlgorithms(&f, &c)
	for _, setting := range [...]struct {
		name string
		set  bool
	}{
		{"insecure_no_code_challenge", declared.InsecureNoCodeChallenge}, {"insecure_assertion_audience", declared.InsecureAssertionAudience},
		{"first_party", declared.FirstParty},
	} {
		problem := ""
		if setting.set {
			problem = "remove it"
		}
		f.add(p.noInsecureSettings, setting.name+" is not set", setting.name, problem)
	}
	f.imposed(p.pushedRequests, "authorization requests are pushed")
	f.imposed(p.signedRequests, "authorization requests are signed request objects")
	f.imposed(p.requestObject.section, "a signed request object has nbf at most 60 minutes ago and exp at most 60 minutes after nbf")
	f.imposed(p.codeChallenge, "PKCE with S256 is used")
	f.imposed(p.codeChallengePushed, "PKCE with S256 is used in pushed requests")
	f.imposed(p.redirectURI, "redirect_uri is sent")
	f.imposed(p.scope, "scope is sent")
	f.imposed(p.codeInJWT, "response_type is code id_token, or code with response_mode jwt")
	f.imposed(p.nonceOrState, "nonce is sent in OpenID Connect requests, and state in others")
	f.imposed(p.stateHash, "the ID token of the authorization response has s_hash")
	f.imposed(p.stringAudience, "aud of a client assertion is the issuer, as a string")
	f.imposed(p.boundTokens.section, "access tokens are bound to a key: "+strings.Join(p.boundTokens.values, " or "))
	f.imposed(p.noRotation, "refresh tokens are not rotated")
	f.imposed(p.codeLifetime.section, fmt.Sprintf("an authorization code is valid for at most %.0f seconds", p.codeLifetime.most.Seconds()))
	f.imposed(p.requestURILifetime.section, "a request_uri is valid for less than 600 seconds")
	f.imposed(p.proofAhead.section, fmt.Sprintf("iat of a DPoP proof is at most %.0f seconds in the future", p.proofAhead.most.Seconds()))
	return f.found
}

// checkRedirects checks the schemes of redirect URIs.
func (p *profile) checkRedirects(f *profileFindings, c *record.Client) {
	if len(c.RedirectURIs) == 0 {
		return
	}
	problem := ""
	for _, uri := range c.RedirectURIs {
		kind := redirectPrivate
		switch scheme, _, _ := strings.Cut(uri, ":"); {
		case scheme == "https":
			kind = redirectHTTPS
		case scheme == "http" && c.ApplicationType == oauth.ApplicationNative && isWebAddress(uri):
			kind = redirectLoopback
		case scheme == "http":
			kind = "http"
		}
		if !p.redirectURIs.allows(kind) {
			problem = fmt.Sprintf("%s is not one of: %s", clip(uri), strings.Join(p.redirectURIs.values, ", "))
		}
	}
	f.add(p.redirectURIs.section, "each redirect URI is one of: "+strings.Join(p.redirectURIs.values, ", "), "redirect_uris", problem)
}

// checkAlgorithms checks the algorithms that a client is registered for.
func (p *profile) checkAlgorithms(f *profileFindings, c *record.Client) {
	for _, member := range [...]struct{ name, alg string }{
		{"token_endpoint_auth_signing_alg", c.TokenEndpointAuthSigningAlg},
		{"request_object_signing_alg", c.RequestObjectSigningAlg},
		{"backchannel_authentication_request_signing_alg", c.BackchannelAuthenticationRequestSigningAlg},
		{"id_token_signed_response_alg", c.IDTokenSignedResponseAlg},
		{"userinfo_signed_response_alg", c.UserinfoSignedResponseAlg},
		{"authorization_signed_response_alg", c.AuthorizationSignedResponseAlg},
		{"introspection_signed_response_alg", c.IntrospectionSignedResponseAlg},
		{"access_token_signed_response_alg", c.AccessTokenSignedResponseAlg},
	} {
		if member.alg == "" {
			continue
		}
		problem := ""
		if !p.signatures.allows(jose.Algorithm(member.alg)) {
			problem = fmt.Sprintf("%q is not one of %s", member.alg, strings.Join(algorithmNames(p.signatures.values), ", "))
		}
		f.add(p.signatures.section, member.name+" is allowed", member.name, problem)
	}
}

// problems returns what keeps a client from meeting the profile.
func (p *profile) problems(c *record.Client) []ClientProblem {
	var problems []ClientProblem
	for _, finding := range p.findings(c) {
		if !finding.Met {
			problems = append(problems, ClientProblem{finding.Member, fmt.Sprintf("%s (required by the profile %s: %s)", finding.Problem, p.name, finding.Section)})
		}
	}
	return problems
}

// effectiveProfile returns the profile of a client on a server whose profile is named server, which
// may be "". It reports why the client cannot have it.
func effectiveProfile(c *record.Client, server string) (*profile, *ClientProblem) {
	p := profileNamed(c.Profile)
	if p == nil {
		return nil, &ClientProblem{"profile", fmt.Sprintf("%q is not one of %s", c.Profile, strings.Join(Profiles(), ", "))}
	}
	least := profileNamed(server)
	switch {
	case server == "" || least == nil:
		return p, nil
	case c.Profile == "":
		return least, nil
	case p.strictness < least.strictness && !c.InsecureWeakerProfile:
		return nil, &ClientProblem{"profile", fmt.Sprintf("%s is weaker than the profile of the server, %s: remove it, or set insecure_weaker_profile", p.name, server)}
	}
	return p, nil
}

// CheckClientProfile returns what keeps a client from meeting its profile. server is the profile of
// the server (Config.Profile), which applies to a client without one.
func CheckClientProfile(client record.Client, server string) []ClientProblem {
	p, problem := effectiveProfile(&client, server)
	if problem != nil {
		return []ClientProblem{*problem}
	}
	return p.problems(&client)
}

// ReportProfile compares a client with a profile, requirement by requirement, as if the client had
// that profile. It returns nil if there is no such profile.
func ReportProfile(client record.Client, name string) []ProfileFinding {
	p := profileNamed(name)
	if p == nil {
		return nil
	}
	return p.findings(&client)
}

// SignedResponseAlg returns the algorithm of ID tokens for a client with a profile that specifies
// none.
func SignedResponseAlg(profile string) string {
	client := record.Client{}
	if p := profileNamed(profile); p != nil {
		p.preset(&client)
	}
	return client.ClientMetadata.WithDefaults().IDTokenSignedResponseAlg
}

// CheckProfile reports why a server cannot have a profile.
func CheckProfile(name string) error {
	if profileNamed(name) == nil {
		return fmt.Errorf("%q is not one of %s", name, strings.Join(Profiles(), ", "))
	}
	return nil
}

var (
	ruleProfile = rule{
		must:    "the client is registered as its profile requires",
		section: "Valetkey", code: oauth.UnauthorizedClient,
		says: "the client does not meet the requirements of its profile",
		fix:  "correct the client; valetkey check shows what its profile requires",
	}
	ruleProfileRequest = rule{
		must:    "the authorization request is as the client's profile requires",
		section: "FAPI 1.0 Advanced, section 5.2.2", code: oauth.InvalidRequest,
		says: "the request is not as the client's profile requires", // followed by the reason
		fix:  "change the request as the profile requires",
	}
	ruleTokenBinding = rule{
		must:    "the request proves possession of a key, if the client's profile requires bound access tokens",
		section: "FAPI 2.0 Security Profile, section 5.3.2.1", code: oauth.InvalidRequest,
		says: "access tokens of this client must be bound to a key, and the request proves possession of none",
		fix:  "send a DPoP proof or use the client certificate, whichever the profile allows",
	}
	ruleProofAlgorithm = rule{
		must:    "the DPoP proof has an algorithm that the client's profile allows",
		section: "FAPI 2.0 Security Profile, section 5.4.1", code: oauth.InvalidDPoPProof,
		says: "the algorithm of the DPoP proof is not allowed for this client",
		fix:  "sign proofs with ES256, PS256 or Ed25519",
	}
)

// checkProfile checks that the client may be used: that it is registered as its profile requires.
func (c *call) checkProfile(cl *client) error {
	if len(cl.unmet) == 0 {
		return nil
	}
	var all []string
	for _, problem := range cl.unmet {
		all = append(all, problem.String())
	}
	return c.refuse(&ruleProfile, strings.Join(all, "; "))
}

// verifyProfile checks what a profile requires of an authorization request.
func (c *call) verifyProfile(request *authorizationRequest) error {
	cl := request.client
	if err := c.checkProfile(cl); err != nil {
		return err
	}
	openID := slices.Contains(strings.Fields(c.params.get("scope")), oauth.ScopeOpenID)
	responseType, _ := oauth.ParseResponseType(c.params.get("response_type"))
	pushed := c.endpoint.path == parPath || c.pending != nil && c.pending.size > 0
	for _, check := range [...]struct {
		section requirement
		ok      bool
		says    string
	}{
		{cl.profile.redirectURI, c.params.has("redirect_uri"), "redirect_uri is missing"},
		{cl.profile.scope, c.params.has("scope"), "scope is missing"},
		{cl.profile.codeInJWT, responseType.FrontChannel() || c.params.has("response_mode") && isJWTMode(request.to.mode), "response_type code needs response_mode jwt"},
		{cl.profile.codeChallengePushed, !pushed || c.params.has("code_challenge"), "code_challenge is missing"},
		{cl.profile.nonceOrState, !openID || c.params.has("nonce"), "nonce is missing"},
		{cl.profile.nonceOrState, openID || c.params.has("state"), "state is missing"},
	} {
		if check.section.applies() && !check.ok {
			broken := ruleProfileRequest
			broken.section = string(check.section)
			broken.says += ": " + check.says
			return c.refuse(&broken, "profile "+cl.profile.name)
		}
	}
	return nil
}

// checkTokenBinding checks that access tokens are bound to a key, if the profile requires it.
func (c *call) checkTokenBinding() error {
	allowed := c.client.profile.boundTokens
	if !allowed.section.applies() {
		return nil
	}
	bound := c.confirmation()
	if bound != nil && (bound.JWKThumbprint != "" && allowed.allows(boundByDPoP) || bound.CertificateThumbprint != "" && allowed.allows(boundByCertificate)) {
		return nil
	}
	broken := ruleTokenBinding
	broken.section = string(allowed.section)
	return c.refuse(&broken, "profile "+c.client.profile.name+": "+strings.Join(allowed.values, " or "))
}

// limitMetadata removes from the metadata what the profile of the server does not allow.
func (p *profile) limitMetadata(m *oauth.ServerMetadata) {
	keep := func(list *[]string, allowed choice[string]) {
		*list = slices.DeleteFunc(*list, func(name string) bool { return !allowed.allows(name) })
	}
	keep(&m.GrantTypesSupported, p.grantTypes)
	keep(&m.ResponseTypesSupported, p.responseTypes)
	keep(&m.ResponseModesSupported, p.responseModes)
	keep(&m.BackchannelTokenDeliveryModesSupported, p.deliveryModes)
	for _, list := range [...]*[]string{
		&m.TokenEndpointAuthMethodsSupported, &m.IntrospectionEndpointAuthMethodsSupported, &m.RevocationEndpointAuthMethodsSupported,
	} {
		keep(list, p.authMethods)
	}
	for _, list := range [...]*[]string{
		&m.IDTokenSigningAlgValuesSupported, &m.AuthorizationSigningAlgValuesSupported, &m.IntrospectionSigningAlgValuesSupported,
		&m.UserinfoSigningAlgValuesSupported, &m.TokenEndpointAuthSigningAlgValuesSupported, &m.IntrospectionEndpointAuthSigningAlgValuesSupported,
		&m.RevocationEndpointAuthSigningAlgValuesSupported, &m.DPoPSigningAlgValuesSupported, &m.BackchannelAuthenticationRequestSigningAlgValuesSupported, &m.RequestObjectSigningAlgValuesSupported,
	} {
		*list = slices.DeleteFunc(*list, func(name string) bool { return !p.signatures.allows(jose.Algorithm(name)) })
	}
	m.RequirePushedAuthorizationRequests = m.RequirePushedAuthorizationRequests || p.pushedRequests.applies()
	m.RequireSignedRequestObject = m.RequireSignedRequestObject || p.signedRequests.applies()
}

// checkProfiles reports why the profiles of the server cannot be used.
func (config *Config) checkProfiles() error {
	if err := CheckProfile(config.Profile); err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	if _, problem := effectiveProfile(&record.Client{ClientSettings: record.ClientSettings{Profile: config.Registration.Profile}}, config.Profile); problem != nil {
		return fmt.Errorf("registration: %s", problem)
	}
	return nil
}

// NeedsMutualTLS reports whether the profile of a client allows only tokens that are bound to a
// certificate. server is the profile of the server.
func NeedsMutualTLS(client record.Client, server string) bool {
	p, problem := effectiveProfile(&client, server)
	return problem == nil && p.boundTokens.section.applies() && !p.boundTokens.allows(boundByDPoP)
}

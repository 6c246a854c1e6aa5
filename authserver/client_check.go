package authserver

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/record"
)

// ClientProblem describes a member of a client that is not valid.
type ClientProblem struct {
	// Member is the name of the member, with an index for an element of a list; "" if the problem
	// concerns the whole client.
	Member, Message string
}

func (p ClientProblem) String() string {
	if p.Member == "" {
		return p.Message
	}
	return p.Member + ": " + p.Message
}

// clientCheck collects the problems of a client whose metadata has its defaults.
type clientCheck struct {
	*record.Client
	problems []ClientProblem
}

// CheckClient returns why a client must not be stored, whether it was declared in a file or
// registered itself (RFC 7591, section 2; OpenID Connect Registration, section 2).
func CheckClient(client record.Client) []ClientProblem {
	check := clientCheck{Client: &client}
	check.profile()
	client.ClientMetadata = client.ClientMetadata.WithDefaults()
	check.redirects()
	check.responseTypes()
	check.credentials()
	check.keys()
	check.algorithms()
	check.requestObjects()
	check.subjects()
	check.logout()
	check.tokens()
	check.dpop()
	check.backchannel()
	check.others()
	return check.problems
}

func (c *clientCheck) report(member, format string, args ...any) {
	c.problems = append(c.problems, ClientProblem{member, fmt.Sprintf(format, args...)})
}

func (c *clientCheck) oneOf(member, value string, values ...string) {
	if value != "" && !slices.Contains(values, value) {
		c.report(member, "%q is not one of %s", value, strings.Join(values, ", "))
	}
}

// profile checks the requirements of the client's own profile, and gives the client the settings that
// it implies, for the checks that follow. Those of the server's profile are checked by
// CheckClientProfile.
func (c *clientCheck) profile() {
	if c.Profile == "" {
		return
	}
	c.problems = append(c.problems, CheckClientProfile(*c.Client, "")...)
	if p := profileNamed(c.Profile); p != nil {
		p.preset(c.Client)
	}
}

func (c *clientCheck) redirects() {
	c.oneOf("application_type", c.ApplicationType, oauth.ApplicationWeb, oauth.ApplicationNative)
	for i, scheme := range c.RedirectSchemes {
		if err := oauth.CheckRedirectScheme(scheme); err != nil {
			c.report(fmt.Sprintf("redirect_schemes[%d]", i), "%v", err)
		}
	}
	if len(c.RedirectSchemes) > 0 && c.Registration == nil && c.ApplicationType != oauth.ApplicationNative {
		c.report("redirect_schemes", "only clients whose application_type is native may use it")
	}
	for _, member := range [...]struct {
		name string
		uris []string
	}{{"redirect_uris", c.RedirectURIs}, {"post_logout_redirect_uris", c.PostLogoutRedirectURIs}} {
		for i, uri := range member.uris {
			if err := oauth.CheckRedirectURI(uri, c.ApplicationType, c.RedirectSchemes...); err != nil {
				c.report(fmt.Sprintf("%s[%d]", member.name, i), "%v", err)
			}
		}
	}
	if len(c.ResponseTypes) > 0 && len(c.RedirectURIs) == 0 {
		c.report("", "the grant type %s needs redirect_uris", c.GrantTypes[0])
	}
}

// responseTypes checks that response_types and grant_types match (RFC 7591, section 2.1).
func (c *clientCheck) responseTypes() {
	grants := []string{oauth.GrantTypeImplicit}
	for _, g := range grantTypes() {
		grants = append(grants, g.name)
		if g.confidential && c.Public() && c.HasGrantType(g.name) {
			c.report("", "the grant type %s needs a client with credentials", g.name)
		}
	}
	for i, g := range c.GrantTypes {
		// An embedder may have extension grants (Config.Hooks).
		if !IsExtensionGrant(g) {
			c.oneOf(fmt.Sprintf("grant_types[%d]", i), g, grants...)
		}
	}
	var code, frontChannel bool
	for i, name := range c.ResponseTypes {
		t, ok := oauth.ParseResponseType(name)
		if !ok {
			c.oneOf(fmt.Sprintf("response_types[%d]", i), name, oauth.ResponseTypes()...)
		}
		code, frontChannel = code || t.Code, frontChannel || t.FrontChannel()
	}
	if code != c.HasGrantType(oauth.GrantTypeAuthorizationCode) {
		c.report("", "response_types with code need the grant type authorization_code, and vice versa (RFC 7591, section 2.1)")
	}
	if frontChannel != c.HasGrantType(oauth.GrantTypeImplicit) {
		c.report("", "response_types with id_token or token need the grant type implicit, and vice versa (RFC 7591, section 2.1)")
	}
}

func (c *clientCheck) credentials() {
	methods := clientAuthMethods()
	at := slices.IndexFunc(methods, func(m clientAuthMethod) bool { return m.name == c.TokenEndpointAuthMethod })
	if at < 0 {
		c.report("token_endpoint_auth_method", "%q is not supported", c.TokenEndpointAuthMethod)
	} else {
		methods[at].check(c)
	}
	if c.WorkloadIdentity != nil && c.TokenEndpointAuthMethod != oauth.AuthMethodFederatedJWT {
		c.report("workload_identity", "it needs token_endpoint_auth_method federated_jwt")
	}
	c.mutualTLS()
}

func (c *clientCheck) keys() {
	c.webAddress("jwks_uri", c.JWKSURI)
	if len(c.JWKS) == 0 {
		return
	}
	if c.JWKSURI != "" {
		c.report("jwks_uri", "jwks and jwks_uri cannot be used together (RFC 7591, section 2)")
	}
	keys, err := jose.ParseKeySet(c.JWKS)
	if err != nil {
		c.report("jwks", "%v", err)
	} else if len(keys.Keys) == 0 && c.TokenEndpointAuthMethod == oauth.AuthMethodPrivateKeyJWT {
		c.report("jwks", "it has no key that can verify a signature")
	}
}

// clientAlgorithms returns the algorithms with which a client may sign.
func clientAlgorithms() []string {
	return append([]string{"HS256", "HS384", "HS512"}, algorithmNames(signingAlgorithms())...)
}

func algorithmNames[T ~string](algorithms []T) []string {
	names := make([]string, len(algorithms))
	for i, a := range algorithms {
		names[i] = string(a)
	}
	return names
}

func (c *clientCheck) algorithms() {
	c.oneOf("access_token_signed_response_alg", c.AccessTokenSignedResponseAlg, algorithmNames(signingAlgorithms())...)
	c.oneOf("token_endpoint_auth_signing_alg", c.TokenEndpointAuthSigningAlg, clientAlgorithms()...)
	if c.IDTokenSignedResponseAlg == string(algorithmNone) {
		for _, name := range c.ResponseTypes {
			if t, _ := oauth.ParseResponseType(name); t.IDToken {
				c.report("id_token_signed_response_alg", "none cannot be used with the response type %q (OpenID Connect Core, section 2)", name)
			}
		}
	} else {
		c.signature("id_token_signed_response_alg", c.IDTokenSignedResponseAlg)
	}
	c.signature("userinfo_signed_response_alg", c.UserinfoSignedResponseAlg)
	c.signature("authorization_signed_response_alg", c.AuthorizationSignedResponseAlg)
	c.signature("introspection_signed_response_alg", c.IntrospectionSignedResponseAlg)
	c.encryption("id_token_encrypted_response", c.IDTokenEncryptedResponseAlg, c.IDTokenEncryptedResponseEnc, true)
	c.encryption("userinfo_encrypted_response", c.UserinfoEncryptedResponseAlg, c.UserinfoEncryptedResponseEnc, true)
	c.encryption("authorization_encrypted_response", c.AuthorizationEncryptedResponseAlg, c.AuthorizationEncryptedResponseEnc, true)
	c.encryption("introspection_encrypted_response", c.IntrospectionEncryptedResponseAlg, c.IntrospectionEncryptedResponseEnc, true)
	c.encryption("request_object_encryption", c.RequestObjectEncryptionAlg, c.RequestObjectEncryptionEnc, false)
}

// signature checks an algorithm with which this server signs for the client: with its own key, or
// with the client's secret.
func (c *clientCheck) signature(member, alg string) {
	c.oneOf(member, alg, clientAlgorithms()...)
	if bits, ok := strings.CutPrefix(alg, "HS"); ok {
		if n, err := strconv.Atoi(bits); err == nil && c.secretBytes() < n/8 {
			c.report(member, "%s needs a client_secret of %d bytes or more (RFC 7518, section 3.2)", alg, n/8)
		}
	}
}

// encryption checks the two members of an encryption. toClient is set if the server encrypts to the
// client.
func (c *clientCheck) encryption(member, alg, enc string, toClient bool) {
	c.oneOf(member+"_alg", alg, algorithmNames(encryptionAlgorithms())...)
	c.oneOf(member+"_enc", enc, algorithmNames(jose.Encryptions())...)
	switch {
	case alg == "" && enc != "":
		c.report(member+"_enc", "it needs %s_alg (OpenID Connect Registration, section 2)", member)
	case alg == "":
	case encryptsWithSecret(jose.Algorithm(alg)):
		if c.secretBytes() == 0 {
			c.report(member+"_alg", "%s needs a client_secret", alg)
		}
	case toClient && c.JWKSURI == "":
		keys, err := jose.ParseKeySet(c.JWKS)
		if err != nil {
			keys = nil // the problem is reported for jwks
		}
		if _, ok := keys.Recipient(jose.Algorithm(alg)); !ok {
			c.report(member+"_alg", "%s needs a key for encryption in jwks, or jwks_uri", alg)
		}
	}
}

func (c *clientCheck) secretBytes() int {
	longest := 0
	for _, s := range c.Secrets {
		longest = max(longest, len(s))
	}
	return longest
}

func (c *clientCheck) requestObjects() {
	c.oneOf("request_object_signing_alg", c.RequestObjectSigningAlg, append([]string{"none"}, clientAlgorithms()...)...)
	if c.RequireSignedRequestObject && c.RequestObjectSigningAlg == "none" {
		c.report("request_object_signing_alg", "none cannot be used with require_signed_request_object")
	}
	for i, mode := range c.ResponseModes {
		c.oneOf(fmt.Sprintf("response_modes[%d]", i), mode, responseModeNames()...)
	}
	if c.ResponseModes != nil && len(c.ResponseModes) == 0 {
		c.report("response_modes", "an empty list would allow no response")
	}
	for i, uri := range c.RequestURIs {
		c.webAddress(fmt.Sprintf("request_uris[%d]", i), uri)
	}
}

func (c *clientCheck) subjects() {
	c.oneOf("subject_type", c.SubjectType, subjectPublic, subjectPairwise)
	if c.SectorIdentifierURI != "" && !strings.HasPrefix(c.SectorIdentifierURI, "https://") {
		c.report("sector_identifier_uri", "%q is not an https URL", c.SectorIdentifierURI)
	}
	if c.SubjectType == subjectPairwise && len(c.RedirectURIs) > 0 && sectorOf(&c.ClientMetadata) == "" {
		c.report("subject_type", "redirect URIs on several hosts need a sector_identifier_uri (OpenID Connect Core, section 8.1)")
	}
}

// logout checks the logout URIs (OpenID Connect Back-Channel Logout, section 2.2, and Front-Channel
// Logout, section 2).
func (c *clientCheck) logout() {
	c.webAddress("backchannel_logout_uri", c.BackchannelLogoutURI)
	c.webAddress("frontchannel_logout_uri", c.FrontchannelLogoutURI)
	for _, member := range [...]struct{ name, uri string }{
		{"backchannel_logout_uri", c.BackchannelLogoutURI}, {"frontchannel_logout_uri", c.FrontchannelLogoutURI},
	} {
		if strings.Contains(member.uri, "#") {
			c.report(member.name, "it must not have a fragment")
		}
	}
	if c.FrontchannelLogoutURI != "" && isWebAddress(c.FrontchannelLogoutURI) &&
		!slices.ContainsFunc(c.RedirectURIs, func(uri string) bool { return sameOrigin(uri, c.FrontchannelLogoutURI) }) {
		c.report("frontchannel_logout_uri", "its scheme, host and port must be those of one of the redirect_uris (OpenID Connect Front-Channel Logout, section 2)")
	}
}

func sameOrigin(a, b string) bool {
	u, err := url.Parse(a)
	if err != nil {
		return false
	}
	v, err := url.Parse(b)
	return err == nil && originOf(u) == originOf(v)
}

func (c *clientCheck) others() {
	if _, err := oauth.ParseScope(c.Scope); err != nil {
		c.report("scope", "%s", oauth.AsError(err).Description)
	}
	if c.DefaultMaxAge != nil && *c.DefaultMaxAge < 0 {
		c.report("default_max_age", "it must be a number of seconds, 0 or more")
	}
	c.webAddress("client_uri", c.ClientURI)
	c.webAddress("logo_uri", c.LogoURI)
	c.webAddress("policy_uri", c.PolicyURI)
	c.webAddress("tos_uri", c.TOSURI)
	if c.InitiateLoginURI != "" && !strings.HasPrefix(c.InitiateLoginURI, "https://") {
		c.report("initiate_login_uri", "%q is not an https URL (OpenID Connect Core, section 4)", c.InitiateLoginURI)
	}
	for i, origin := range c.AllowedOrigins {
		if !isOrigin(origin) {
			c.report(fmt.Sprintf("allowed_origins[%d]", i), "%q is not an origin as browsers send it, such as https://app.example.com or capacitor://localhost", origin)
		}
	}
	c.oneOf("role", c.Role, record.Roles()...)
	if c.Role != "" && !c.HasGrantType(oauth.GrantTypeClientCredentials) {
		c.report("role", "it is for the client's own access tokens: add client_credentials to grant_types")
	}
	if c.Resources != nil && len(c.Resources) == 0 {
		c.report("resources", "an empty list would allow every resource")
	}
	limit := maxClientBytes
	if c.Registration != nil {
		limit = maxRegisteredBytes
	}
	if encoded, err := json.Marshal(c.Client); err != nil || len(encoded) > limit {
		c.report("", "the client's metadata is larger than %d bytes", limit)
	}
}

// webAddress accepts https URLs, and http URLs on loopback.
func (c *clientCheck) webAddress(member, address string) {
	if address != "" && !isWebAddress(address) {
		c.report(member, "%q is not an https URL", address)
	}
}

func isWebAddress(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Host != "" && u.User == nil && len(address) <= 2048 &&
		(u.Scheme == "https" || u.Scheme == "http" && oauth.IsLoopbackHost(u.Hostname()))
}

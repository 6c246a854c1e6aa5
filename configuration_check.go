package valetkey

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/jose"
	"github.com/valetkey/valetkey/oauth"
)

// shortSecret is the length under which a client secret draws a warning: 128 bits in
// base64url are longer.
const shortSecret = 16

// reporter takes a problem with the value at a path such as clients[0].redirect_uris[1].
type reporter func(path, format string, args ...any)

// validate reports what no server could be started with.
func (c *Configuration) validate(report reporter) {
	if c.Issuer != "" {
		if err := oauth.CheckIssuer(c.Issuer); err != nil {
			report("issuer", "%v", err)
		}
	}
	if err := checkDatabase(c.Database); err != nil && c.Database != "" {
		report("database", "%v", err)
	}
	if c.TLS != nil && (c.TLS.Certificate == "" || c.TLS.Key == "") {
		report("tls", "both certificate and key are needed")
	}
	for i, proxy := range c.TrustedProxies {
		if _, err := parseNetwork(proxy); err != nil {
			report(fmt.Sprintf("trusted_proxies[%d]", i), "%v", err)
		}
	}
	for i, network := range c.Outgoing.Networks {
		if _, err := parseNetwork(network); err != nil {
			report(fmt.Sprintf("outgoing.networks[%d]", i), "%v", err)
		}
	}
	oneOf(report, "log.level", c.Log.Level, "debug", "info", "warn", "error")
	oneOf(report, "log.format", c.Log.Format, "text", "json")
	c.Declarations.validate(report)
}

// checkDatabase never repeats the URL, which may hold a password.
func checkDatabase(database string) error {
	for _, scheme := range [...]string{"sqlite:", "postgres://", "postgresql://"} {
		if strings.HasPrefix(database, scheme) && len(database) > len(scheme) {
			return nil
		}
	}
	return errors.New("it begins with sqlite:, postgres:// or postgresql://")
}

func oneOf(report reporter, path, value string, values ...string) {
	if value != "" && !slices.Contains(values, value) {
		report(path, "%q is none of %s", value, strings.Join(values, ", "))
	}
}

// Validate reports everything in the declarations that a store must not take, but for
// names that stand for nothing: those may be stored already.
func (d *Declarations) Validate() error {
	return collectProblems(d.validate)
}

func collectProblems(check func(reporter)) error {
	var problems []error
	check(func(path, format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...)))
	})
	return errors.Join(problems...)
}

func (d *Declarations) validate(report reporter) {
	scopes, resources := map[string]int{}, map[string]int{}
	for i, s := range d.Scopes {
		path := fmt.Sprintf("scopes[%d]", i)
		if parsed, err := oauth.ParseScope(s.Name); err != nil || len(parsed) != 1 {
			report(path+".name", "%q is not one scope value (RFC 6749, section 3.3)", s.Name)
		}
		if first(scopes, s.Name, i) != i {
			report(path+".name", "there are two scopes %q", s.Name)
		}
		for j, claim := range s.Claims {
			if err := oauth.CheckClaimName(claim); err != nil {
				report(fmt.Sprintf("%s.claims[%d]", path, j), "%q: %v", claim, err)
			}
		}
	}
	for i, r := range d.Resources {
		path := fmt.Sprintf("resources[%d]", i)
		u, err := url.Parse(r.Identifier)
		if err != nil || !u.IsAbs() || strings.Contains(r.Identifier, "#") {
			report(path+".identifier", "%q is not an absolute URI without a fragment (RFC 8707, section 2)", r.Identifier)
		}
		if first(resources, r.Identifier, i) != i {
			report(path+".identifier", "there are two resources %q", r.Identifier)
		}
		oneOf(report, path+".access_token_format", r.AccessTokenFormat, authserver.AccessTokenJWT, authserver.AccessTokenOpaque)
	}
	d.validateClients(report)
	d.validateUsers(report)
}

var clientIDForm = regexp.MustCompile(`^[\x21-\x7e]{1,255}$`)

// first returns the place at which a name stood first, which is this one if it is new.
func first(places map[string]int, name string, place int) int {
	if at, ok := places[name]; ok {
		return at
	}
	places[name] = place
	return place
}

func (d *Declarations) validateClients(report reporter) {
	clients := map[string]int{}
	for i := range d.Clients {
		c := &d.Clients[i]
		path := fmt.Sprintf("clients[%d]", i)
		switch {
		case c.ID == "":
			report(path, "client_id is missing")
		case !clientIDForm.MatchString(c.ID) || strings.HasPrefix(c.ID, "https://"):
			report(path+".client_id", "%q: 1 to 255 printable ASCII characters without spaces, and no https URL", c.ID)
		case first(clients, c.ID, i) != i:
			report(path+".client_id", "there are two clients %q", c.ID)
		}
		metadata := c.record().ClientMetadata.WithDefaults()
		for _, member := range [...]struct {
			name string
			uris []string
		}{{"redirect_uris", metadata.RedirectURIs}, {"post_logout_redirect_uris", metadata.PostLogoutRedirectURIs}} {
			for j, uri := range member.uris {
				if err := oauth.CheckRedirectURI(uri, metadata.ApplicationType); err != nil {
					report(fmt.Sprintf("%s.%s[%d]", path, member.name, j), "%v", err)
				}
			}
		}
		if len(metadata.ResponseTypes) > 0 && len(metadata.RedirectURIs) == 0 {
			report(path, "the grant type %s needs redirect_uris", metadata.GrantTypes[0])
		}
		if _, err := oauth.ParseScope(metadata.Scope); err != nil {
			report(path+".scope", "%s", oauth.AsError(err).Description)
		}
		if c.Resources != nil && len(c.Resources) == 0 {
			report(path+".resources", "an empty list would allow every resource")
		}
		c.checkCredentials(&metadata, path, report)
		c.checkNames(&metadata, path, report)
	}
}

func (c *Client) checkCredentials(m *oauth.ClientMetadata, path string, report reporter) {
	if c.SecretNext != "" && c.Secret == "" {
		report(path+".client_secret_next", "it stands beside a client_secret")
	}
	method := m.TokenEndpointAuthMethod
	switch method {
	case oauth.AuthMethodNone:
		if c.Secret != "" {
			report(path+".client_secret", "a client whose token_endpoint_auth_method is none has no secret")
		}
		if m.HasGrantType(oauth.GrantTypeClientCredentials) {
			report(path, "the grant type client_credentials needs a client with credentials (RFC 6749, section 4.4)")
		}
	case oauth.AuthMethodClientSecretBasic, oauth.AuthMethodClientSecretPost:
		if c.Secret == "" {
			report(path, "%s needs a client_secret", method)
		}
	case oauth.AuthMethodClientSecretJWT:
		if len(c.Secret) < 32 {
			report(path, "client_secret_jwt needs a client_secret of 32 bytes or more (RFC 7518, section 3.2)")
		}
	case oauth.AuthMethodPrivateKeyJWT:
		checkClientKeys(m, path, report)
	default:
		report(path+".token_endpoint_auth_method", "%q is not known", method)
	}
}

func checkClientKeys(m *oauth.ClientMetadata, path string, report reporter) {
	switch {
	case len(m.JWKS) == 0 && m.JWKSURI == "":
		report(path, "private_key_jwt needs jwks or jwks_uri")
	case len(m.JWKS) > 0 && m.JWKSURI != "":
		report(path+".jwks_uri", "jwks and jwks_uri exclude each other (RFC 7591, section 2)")
	case len(m.JWKS) > 0:
		keys, err := jose.ParseKeySet(m.JWKS)
		if err != nil {
			report(path+".jwks", "%v", err)
		} else if len(keys.Keys) == 0 {
			report(path+".jwks", "there is no key that can verify a signature")
		}
	default:
		checkWebAddress(report, path+".jwks_uri", m.JWKSURI)
	}
}

func checkWebAddress(report reporter, path, address string) {
	if address == "" {
		return
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && (u.Scheme != "http" || !oauth.IsLoopbackHost(u.Hostname())) {
		report(path, "%q is not an https URL", address)
	}
}

func (c *Client) checkNames(m *oauth.ClientMetadata, path string, report reporter) {
	signing := []string{"ES256", "RS256", "PS256", "ES384", "ES512", "EdDSA"}
	for i, g := range m.GrantTypes {
		oneOf(report, fmt.Sprintf("%s.grant_types[%d]", path, i), g,
			oauth.GrantTypeAuthorizationCode, oauth.GrantTypeImplicit, oauth.GrantTypeRefreshToken, oauth.GrantTypeClientCredentials)
	}
	for i, r := range m.ResponseTypes {
		oneOf(report, fmt.Sprintf("%s.response_types[%d]", path, i), r, oauth.ResponseTypes()...)
	}
	checkResponseTypes(m, path, report)
	oneOf(report, path+".application_type", m.ApplicationType, oauth.ApplicationWeb, oauth.ApplicationNative)
	oneOf(report, path+".subject_type", m.SubjectType, "public", "pairwise")
	oneOf(report, path+".id_token_signed_response_alg", m.IDTokenSignedResponseAlg, signing...)
	oneOf(report, path+".access_token_signed_response_alg", c.AccessTokenSignedResponseAlg, signing...)
	oneOf(report, path+".token_endpoint_auth_signing_alg", m.TokenEndpointAuthSigningAlg,
		append([]string{"HS256", "HS384", "HS512"}, signing...)...)
	if m.DefaultMaxAge != nil && *m.DefaultMaxAge < 0 {
		report(path+".default_max_age", "it is a number of seconds, 0 or more")
	}
	checkWebAddress(report, path+".client_uri", m.ClientURI)
	checkWebAddress(report, path+".logo_uri", m.LogoURI)
	checkWebAddress(report, path+".policy_uri", m.PolicyURI)
	checkWebAddress(report, path+".tos_uri", m.TOSURI)
	checkWebAddress(report, path+".initiate_login_uri", m.InitiateLoginURI)
	for i, origin := range c.AllowedOrigins {
		u, err := url.Parse(origin)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Scheme+"://"+u.Host != origin {
			report(fmt.Sprintf("%s.allowed_origins[%d]", path, i), "%q is no origin such as https://app.example.com", origin)
		}
	}
}

// checkResponseTypes holds response_types and grant_types to each other (RFC 7591, section
// 2.1).
func checkResponseTypes(m *oauth.ClientMetadata, path string, report reporter) {
	var code, frontChannel bool
	for _, name := range m.ResponseTypes {
		t, _ := oauth.ParseResponseType(name)
		code, frontChannel = code || t.Code, frontChannel || t.FrontChannel()
	}
	if code != m.HasGrantType(oauth.GrantTypeAuthorizationCode) {
		report(path, "response_types with code and the grant type authorization_code go together (RFC 7591, section 2.1)")
	}
	if frontChannel != m.HasGrantType(oauth.GrantTypeImplicit) {
		report(path, "response_types with id_token or token and the grant type implicit go together (RFC 7591, section 2.1)")
	}
}

func (d *Declarations) validateUsers(report reporter) {
	owners := map[string]string{}
	for i := range d.Users {
		u := &d.Users[i]
		path := fmt.Sprintf("users[%d]", i)
		if u.Password != "" && u.PasswordHash != "" {
			report(path+".password_hash", "password and password_hash exclude each other")
		}
		if len(u.Password) > identity.MaxPasswordBytes {
			report(path+".password", "%v", identity.ErrPasswordTooLong)
		}
		for name := range u.Claims {
			if err := checkCustomClaim(name); err != nil {
				report(path+".claims."+name, "%v", err)
			}
		}
		claims, err := u.claims()
		if err != nil {
			report(path, "%v", err)
			continue
		}
		record := identity.User{ID: "new", Username: u.Username, PasswordHash: u.PasswordHash, Claims: claims}
		if err := record.Check(); err != nil {
			report(path, "%v", err)
		}
		for _, identifier := range record.Identifiers() {
			if owner, taken := owners[identifier]; taken {
				report(path, "%q finds %s already; usernames and e-mail addresses are one person's", identifier, owner)
			}
			owners[identifier] = path
		}
	}
}

// checkCustomClaim keeps what has a member or a meaning of its own out of claims.
func checkCustomClaim(name string) error {
	if err := oauth.CheckClaimName(name); err != nil {
		return err
	}
	switch name {
	case "preferred_username", "updated_at":
		return errors.New("it follows from the user's record")
	}
	for _, claims := range oauth.ScopeClaims {
		if slices.Contains(claims, name) {
			return errors.New("it is a standard claim: write it beside username")
		}
	}
	return nil
}

// checkReferences reports names that stand for nothing: neither among the declarations
// nor among what is stored.
func (d *Declarations) checkReferences(stored *Declarations, report reporter) {
	scopes := oauth.Scope{oauth.ScopeOpenID, oauth.ScopeProfile, oauth.ScopeEmail, oauth.ScopeAddress, oauth.ScopePhone, oauth.ScopeOfflineAccess}
	for _, s := range slices.Concat(d.Scopes, stored.Scopes) {
		scopes = append(scopes, s.Name)
	}
	var resources, clients []string
	for _, r := range slices.Concat(d.Resources, stored.Resources) {
		resources = append(resources, r.Identifier)
	}
	for _, c := range slices.Concat(d.Clients, stored.Clients) {
		clients = append(clients, c.ID)
	}
	for i, r := range d.Resources {
		for j, scope := range r.Scopes {
			if !slices.Contains(scopes, scope) {
				report(fmt.Sprintf("resources[%d].scopes[%d]", i, j), "the scope %q is not declared", scope)
			}
		}
		for j, id := range r.IntrospectionClients {
			if !slices.Contains(clients, id) {
				report(fmt.Sprintf("resources[%d].introspection_clients[%d]", i, j), "the client %q is not declared", id)
			}
		}
	}
	for i, c := range d.Clients {
		asked, err := oauth.ParseScope(c.Scope)
		if err != nil {
			continue // reported by validate
		}
		for _, scope := range asked.Without(scopes) {
			report(fmt.Sprintf("clients[%d].scope", i), "the scope %q is not declared", scope)
		}
		for j, r := range c.Resources {
			if !slices.Contains(resources, r) {
				report(fmt.Sprintf("clients[%d].resources[%d]", i, j), "the resource %q is not declared", r)
			}
		}
	}
}

// Warnings lists what works but should be mended.
func (d *Declarations) Warnings() []string {
	var warnings []string
	for _, c := range d.Clients {
		if c.Secret != "" && len(c.Secret) < shortSecret || c.SecretNext != "" && len(c.SecretNext) < shortSecret {
			warnings = append(warnings, fmt.Sprintf("client %q: client_secret is short; use 32 random bytes", c.ID))
		}
		for _, name := range c.ResponseTypes {
			if t, _ := oauth.ParseResponseType(name); t.Token {
				warnings = append(warnings, fmt.Sprintf("client %q: response_type %q sends access tokens through the browser; use code with PKCE (RFC 9700, section 2.1.2)", c.ID, name))
			}
		}
		if c.InsecureAssertionAudience {
			warnings = append(warnings, fmt.Sprintf("client %q: insecure_assertion_audience takes assertions that were made for another server (RFC 10070)", c.ID))
		}
	}
	for _, u := range d.Users {
		if u.Password != "" {
			if err := identity.CheckPassword(u.Password, &identity.User{Username: u.Username}); err != nil {
				warnings = append(warnings, fmt.Sprintf("user %q: %v", u.Username, err))
			}
		}
	}
	return warnings
}

// parseNetwork reads an address or a network.
func parseNetwork(s string) (netip.Prefix, error) {
	if prefix, err := netip.ParsePrefix(s); err == nil {
		return prefix.Masked(), nil
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is neither an IP address nor a network such as 10.0.0.0/8", s)
	}
	return netip.PrefixFrom(addr, addr.BitLen()), nil
}

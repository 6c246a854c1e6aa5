package valetkey

import (
	"encoding/json"
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

// validate reports what no server could be started with, each with its line where the
// text shows one.
func (c *Configuration) validate(name string, text []byte) []error {
	var problems []error
	report := func(anchor string, format string, args ...any) {
		where := name
		if line := lineOf(text, anchor); line > 0 {
			where = fmt.Sprintf("%s:%d", name, line)
		}
		problems = append(problems, fmt.Errorf("%s: %s", where, fmt.Sprintf(format, args...)))
	}
	if c.Issuer != "" {
		if err := oauth.CheckIssuer(c.Issuer); err != nil {
			report("issuer:", "issuer: %v", err)
		}
	}
	if c.TLS != nil && (c.TLS.Certificate == "" || c.TLS.Key == "") {
		report("tls:", "tls needs both certificate and key")
	}
	for _, proxy := range c.TrustedProxies {
		if _, err := parseNetwork(proxy); err != nil {
			report(proxy, "trusted_proxies: %v", err)
		}
	}
	if level := c.Log.Level; level != "" && !slices.Contains([]string{"debug", "info", "warn", "error"}, level) {
		report("level:", "log.level is debug, info, warn or error, not %q", level)
	}
	if format := c.Log.Format; format != "" && format != "text" && format != "json" {
		report("format:", "log.format is text or json, not %q", format)
	}
	c.Declarations.validate(report)
	return problems
}

// lineOf returns the line of the first place where anchor stands; 0 if nowhere.
func lineOf(text []byte, anchor string) int {
	before, _, found := strings.Cut(string(text), anchor)
	if !found || anchor == "" {
		return 0
	}
	return strings.Count(before, "\n") + 1
}

// Validate reports everything in the declarations that a store must not take.
func (d *Declarations) Validate() error {
	var problems []error
	d.validate(func(_, format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) })
	return errors.Join(problems...)
}

func (d *Declarations) validate(report func(anchor, format string, args ...any)) {
	scopes := oauth.Scope{oauth.ScopeOpenID, oauth.ScopeProfile, oauth.ScopeEmail, oauth.ScopeAddress, oauth.ScopePhone, oauth.ScopeOfflineAccess}
	for i, s := range d.Scopes {
		if parsed, err := oauth.ParseScope(s.Name); err != nil || len(parsed) != 1 {
			report(s.Name, "scopes[%d].name: %q is not one scope value (RFC 6749, section 3.3)", i, s.Name)
		}
		for _, claim := range s.Claims {
			if err := oauth.CheckClaimName(claim); err != nil {
				report(claim, "scope %q: claim %q: %v", s.Name, claim, err)
			}
		}
		scopes = append(scopes, s.Name)
	}
	var resources []string
	for i, r := range d.Resources {
		u, err := url.Parse(r.Identifier)
		if err != nil || !u.IsAbs() || strings.Contains(r.Identifier, "#") {
			report(r.Identifier, "resources[%d].identifier: %q is not an absolute URI without a fragment (RFC 8707, section 2)", i, r.Identifier)
		}
		if f := r.AccessTokenFormat; f != "" && f != authserver.AccessTokenJWT && f != authserver.AccessTokenOpaque {
			report(f, "resource %s: access_token_format is jwt or opaque, not %q", r.Identifier, f)
		}
		for _, scope := range r.Scopes {
			if !scopes.Has(scope) {
				report(scope, "resource %s: the scope %q is not declared", r.Identifier, scope)
			}
		}
		resources = append(resources, r.Identifier)
	}
	d.validateClients(report, scopes, resources)
	d.validateUsers(report)
}

var clientIDForm = regexp.MustCompile(`^[\x21-\x7e]{1,255}$`)

func (d *Declarations) validateClients(report func(anchor, format string, args ...any), scopes oauth.Scope, resources []string) {
	seen := map[string]bool{}
	for i, c := range d.Clients {
		complain := func(anchor, format string, args ...any) {
			report(anchor, "client %q: %s", c.ID, fmt.Sprintf(format, args...))
		}
		switch {
		case c.ID == "":
			report("clients:", "clients[%d] has no client_id", i)
			continue
		case !clientIDForm.MatchString(c.ID) || strings.HasPrefix(c.ID, "https://"):
			complain(c.ID, "client_id has 1 to 255 printable characters without spaces, and is no https URL")
		case seen[c.ID]:
			complain(c.ID, "there are two clients with this client_id")
		}
		seen[c.ID] = true
		metadata := c.record().ClientMetadata.WithDefaults()
		if err := metadata.CheckRedirectURIs(); err != nil {
			complain(firstBadURI(metadata), "%s", oauth.AsError(err).Description)
		}
		if slices.Contains(metadata.GrantTypes, oauth.GrantTypeAuthorizationCode) && len(metadata.RedirectURIs) == 0 {
			complain(c.ID, "the grant type authorization_code needs redirect_uris")
		}
		checkCredentials(c, metadata, complain)
		checkNames(metadata, c.ClientSettings, complain)
		asked, err := oauth.ParseScope(metadata.Scope)
		if err != nil {
			complain(metadata.Scope, "scope: %s", oauth.AsError(err).Description)
		}
		for _, scope := range asked.Without(scopes) {
			complain(scope, "the scope %q is not declared", scope)
		}
		for _, r := range c.Resources {
			if !slices.Contains(resources, r) {
				complain(r, "the resource %q is not declared", r)
			}
		}
	}
}

func firstBadURI(m oauth.ClientMetadata) string {
	for _, uri := range slices.Concat(m.RedirectURIs, m.PostLogoutRedirectURIs) {
		if oauth.CheckRedirectURI(uri, m.ApplicationType) != nil {
			return uri
		}
	}
	return ""
}

func checkCredentials(c Client, m oauth.ClientMetadata, complain func(anchor, format string, args ...any)) {
	method := m.TokenEndpointAuthMethod
	switch method {
	case oauth.AuthMethodNone:
		if c.Secret != "" {
			complain(c.ID, "a client whose token_endpoint_auth_method is none has no client_secret")
		}
		if m.HasGrantType(oauth.GrantTypeClientCredentials) {
			complain(c.ID, "the grant type client_credentials needs a client with credentials")
		}
	case oauth.AuthMethodClientSecretBasic, oauth.AuthMethodClientSecretPost:
		if c.Secret == "" {
			complain(c.ID, "%s needs a client_secret", method)
		}
	case oauth.AuthMethodClientSecretJWT:
		if len(c.Secret) < 32 {
			complain(c.ID, "client_secret_jwt needs a client_secret of 32 bytes or more (RFC 7518, section 3.2)")
		}
	case oauth.AuthMethodPrivateKeyJWT:
		switch {
		case len(m.JWKS) == 0 && m.JWKSURI == "":
			complain(c.ID, "private_key_jwt needs jwks or jwks_uri")
		case len(m.JWKS) > 0 && m.JWKSURI != "":
			complain(c.ID, "jwks and jwks_uri exclude each other (RFC 7591, section 2)")
		case len(m.JWKS) > 0:
			keys, err := jose.ParseKeySet(m.JWKS)
			if err != nil {
				complain("jwks:", "jwks: %v", err)
			} else if len(keys.Keys) == 0 {
				complain("jwks:", "jwks has no key that can verify a signature")
			}
		case !strings.HasPrefix(m.JWKSURI, "https://"):
			complain(m.JWKSURI, "jwks_uri is an https URL")
		}
	default:
		complain(method, "token_endpoint_auth_method %q is not known", method)
	}
}

func checkNames(m oauth.ClientMetadata, s authserver.ClientSettings, complain func(anchor, format string, args ...any)) {
	known := func(member, value string, values ...string) {
		if value != "" && !slices.Contains(values, value) {
			complain(value, "%s is one of %s, not %q", member, strings.Join(values, ", "), value)
		}
	}
	signing := []string{"ES256", "RS256", "PS256", "ES384", "ES512", "EdDSA"}
	for _, g := range m.GrantTypes {
		known("grant_types", g, oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken, oauth.GrantTypeClientCredentials)
	}
	for _, r := range m.ResponseTypes {
		known("response_types", r, "code")
	}
	known("application_type", m.ApplicationType, oauth.ApplicationWeb, oauth.ApplicationNative)
	known("subject_type", m.SubjectType, "public")
	known("id_token_signed_response_alg", m.IDTokenSignedResponseAlg, signing...)
	known("access_token_signed_response_alg", s.AccessTokenSignedResponseAlg, signing...)
	known("token_endpoint_auth_signing_alg", m.TokenEndpointAuthSigningAlg, append([]string{"HS256", "HS384", "HS512"}, signing...)...)
	for member, uri := range map[string]string{"client_uri": m.ClientURI, "logo_uri": m.LogoURI, "policy_uri": m.PolicyURI, "tos_uri": m.TOSURI, "initiate_login_uri": m.InitiateLoginURI} {
		if uri == "" {
			continue
		}
		u, err := url.Parse(uri)
		if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && !(u.Scheme == "http" && oauth.IsLoopbackHost(u.Hostname())) {
			complain(uri, "%s is an https URL", member)
		}
	}
	for _, origin := range s.AllowedOrigins {
		u, err := url.Parse(origin)
		if err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != origin {
			complain(origin, "allowed_origins: %q is no origin such as https://app.example.com", origin)
		}
	}
}

func (d *Declarations) validateUsers(report func(anchor, format string, args ...any)) {
	for i, u := range d.Users {
		if u.Username == "" {
			report("users:", "users[%d] has no username", i)
			continue
		}
		if u.Password != "" && u.PasswordHash != "" {
			report(u.Username, "user %q: password and password_hash exclude each other", u.Username)
		}
		if u.PasswordHash != "" {
			if err := identity.CheckPasswordHash(u.PasswordHash); err != nil {
				report(u.Username, "user %q: password_hash: %v", u.Username, err)
			}
		}
		for name := range u.Claims {
			if err := oauth.CheckClaimName(name); err != nil {
				report(name, "user %q: claims.%s: %v", u.Username, name, err)
			}
		}
	}
}

// Warnings lists what works but should be mended.
func (d *Declarations) Warnings() []string {
	var warnings []string
	for _, c := range d.Clients {
		if c.Secret != "" && len(c.Secret) < shortSecret {
			warnings = append(warnings, fmt.Sprintf("client %q: client_secret is short; use 32 random bytes", c.ID))
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

// claims returns a user's claims as they are stored.
func (u *User) claims() (map[string]any, error) {
	standard := *u
	standard.Username, standard.Password, standard.PasswordHash, standard.Claims = "", "", "", nil
	standard.Disabled, standard.Administrator = false, false
	document, err := json.Marshal(standard)
	if err != nil {
		return nil, fmt.Errorf("encode claims of %q: %w", u.Username, err)
	}
	claims := map[string]any{}
	if err := json.Unmarshal(document, &claims); err != nil {
		return nil, fmt.Errorf("read claims of %q: %w", u.Username, err)
	}
	delete(claims, "username")
	for name, value := range u.Claims {
		claims[name] = value
	}
	return claims, nil
}

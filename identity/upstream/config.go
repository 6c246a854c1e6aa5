package upstream

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"

	"github.com/valetkey/valetkey/identity/admission"
	"github.com/valetkey/valetkey/oauth"
)

// Config is a provider as an operator configures it. The members have the names of the standards.
type Config struct {
	// ID names the provider in URLs, the log and the accounts of its users. It must not change.
	ID string `json:"id"`
	// Name is on the button: "Continue with Name".
	Name string `json:"name,omitempty"`
	// LogoFile is a picture for the button: SVG, PNG, JPEG or WebP, of at most 64 KiB.
	LogoFile string `json:"logo_file,omitempty"`
	// Preset is google, microsoft, apple or github. It sets what is not named.
	Preset string `json:"preset,omitempty"`
	// Issuer is the issuer identifier. With Preset or with AuthorizationEndpoint it is optional.
	Issuer string `json:"issuer,omitempty"`
	// Tenant is the ID of a tenant of Microsoft, and TeamID that of a team of Apple.
	Tenant string `json:"tenant,omitempty"`
	TeamID string `json:"team_id,omitempty"`

	ClientID         string `json:"client_id"`
	ClientSecret     string `json:"client_secret,omitempty"`
	ClientSecretFile string `json:"client_secret_file,omitempty"`
	// TokenEndpointAuthMethod is how the client authenticates. The default depends on the provider's
	// metadata, and is private_key_jwt with PrivateKeyFile.
	TokenEndpointAuthMethod string `json:"token_endpoint_auth_method,omitempty"`
	// PrivateKeyFile is a PEM file (PKCS #8) with the key for private_key_jwt, or the key of Apple.
	// KeyID is its kid at the provider.
	PrivateKeyFile string `json:"private_key_file,omitempty"`
	KeyID          string `json:"key_id,omitempty"`
	// Scope is requested; the default is "openid profile email".
	Scope string `json:"scope,omitempty"`

	// AuthorizationEndpoint, TokenEndpoint and UserinfoEndpoint are for servers without OpenID
	// Connect. UserinfoEndpoint is any URL that returns JSON about the user of an access token.
	AuthorizationEndpoint string `json:"authorization_endpoint,omitempty"`
	TokenEndpoint         string `json:"token_endpoint,omitempty"`
	UserinfoEndpoint      string `json:"userinfo_endpoint,omitempty"`
	// Subject is the member that identifies the user permanently. It is a name or a JSON pointer.
	Subject string `json:"subject,omitempty"`
	// Claims maps what the provider says to claims: each is a JSON pointer (RFC 6901), or an
	// expression over claims.
	Claims map[string]string `json:"claims,omitempty"`

	// Domains are the domains of names that are sent to this provider at once.
	Domains []string `json:"domains,omitempty"`
	// Rule decides who may sign in, who gets an account, and what the account has from the provider
	// (package admission). Without it, only users who have linked their account can sign in.
	Rule string `json:"rule,omitempty"`
	// TrustEmail trusts the provider's word that it has verified an address.
	TrustEmail bool `json:"trust_email,omitempty"`
	// ACRValues are requested from the provider. TrustedACR maps an acr of the provider to the
	// authentication class that it counts as here. Without it, a sign-in counts as one factor.
	ACRValues  string            `json:"acr_values,omitempty"`
	TrustedACR map[string]string `json:"trusted_acr,omitempty"`
	// RPInitiatedLogout signs users out at the provider too when they sign out here (OpenID Connect
	// RP-Initiated Logout).
	RPInitiatedLogout bool `json:"rp_initiated_logout,omitempty"`
	// Disabled refuses sign-ins through the provider. Links remain.
	Disabled bool `json:"disabled,omitempty"`

	preset preset
}

// Format keeps the secret out of logs and messages.
func (c Config) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "[provider %q]", c.ID) }

// LogValue keeps the secret out of structured logs.
func (c Config) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

// Expressions are compiled when they are first needed, because a program without providers never
// does.
var validID = compiled(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

var validDomain = compiled(`^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

func compiled(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}

// plain reports whether the provider is an OAuth 2.0 server without OpenID Connect.
func (c *Config) plain() bool { return c.AuthorizationEndpoint != "" }

// Check returns the first reason why the provider cannot be used. It reads no files.
func (c Config) Check() error {
	if !validID().MatchString(c.ID) {
		return errors.New("id: use 1 to 32 lower-case letters, digits and hyphens")
	}
	p, ok := presets[c.Preset]
	if c.Preset != "" && !ok {
		return fmt.Errorf("preset: %q is not one of apple, github, google and microsoft", c.Preset)
	}
	if ok {
		if err := p.check(&c); err != nil {
			return err
		}
		c = p.apply(c)
	} else if c.Tenant != "" || c.TeamID != "" {
		return errors.New("tenant is for preset: microsoft, and team_id for preset: apple")
	}
	if c.ClientID == "" {
		return errors.New("client_id is required")
	}
	if err := c.checkEndpoints(); err != nil {
		return err
	}
	if c.ClientSecret != "" && c.ClientSecretFile != "" {
		return errors.New("set either client_secret or client_secret_file")
	}
	if err := c.checkAuthMethod(); err != nil {
		return err
	}
	scope, err := oauth.ParseScope(c.Scope)
	if err != nil {
		return fmt.Errorf("scope: %s", oauth.AsError(err).Description)
	}
	if c.Scope != "" && scope.Has(oauth.ScopeOpenID) == c.plain() {
		if c.plain() {
			return errors.New("scope: openid is for OpenID Providers; remove it, or set issuer instead of authorization_endpoint")
		}
		return errors.New("scope: openid is required, or set authorization_endpoint, token_endpoint and userinfo_endpoint for a server without OpenID Connect")
	}
	if c.RPInitiatedLogout && (c.plain() || c.Preset == "google" || c.Preset == "apple") {
		return errors.New("rp_initiated_logout: the provider has no end_session_endpoint")
	}
	for i, domain := range c.Domains {
		if !validDomain().MatchString(domain) {
			return fmt.Errorf("domains[%d]: %q is not a domain in lower case, such as example.com", i, domain)
		}
	}
	if _, err := newMapping(c.Claims); err != nil {
		return err
	}
	if _, err := admission.Compile(c.Rule); err != nil {
		return fmt.Errorf("rule: %w", err)
	}
	if c.TrustEmail && c.plain() && c.preset.emails == "" && c.Claims["email_verified"] == "" {
		return errors.New("trust_email: the provider must say whether an address is verified; map the claim email_verified")
	}
	return nil
}

func (c *Config) checkEndpoints() error {
	if c.plain() != (c.TokenEndpoint != "") || c.plain() != (c.UserinfoEndpoint != "") {
		return errors.New("set authorization_endpoint, token_endpoint and userinfo_endpoint for a server without OpenID Connect, or issuer for an OpenID Provider")
	}
	if c.plain() && c.Subject == "" {
		return errors.New("subject is required without OpenID Connect: the member of the userinfo_endpoint's response that identifies a user permanently, such as id; never a name or an address")
	}
	if c.Issuer == "" && !c.plain() {
		return errors.New("issuer, preset or authorization_endpoint is required")
	}
	for _, u := range []struct{ name, value string }{
		{"issuer", c.Issuer}, {"authorization_endpoint", c.AuthorizationEndpoint},
		{"token_endpoint", c.TokenEndpoint}, {"userinfo_endpoint", c.UserinfoEndpoint},
	} {
		parsed, err := url.Parse(u.value)
		if u.value != "" && (err != nil || parsed.Host == "" || parsed.Scheme != "https" && !(parsed.Scheme == "http" && oauth.IsLoopbackHost(parsed.Hostname()))) {
			return fmt.Errorf("%s: %q is not an https URL", u.name, u.value)
		}
	}
	return nil
}

func (c *Config) checkAuthMethod() error {
	secret := c.ClientSecret != "" || c.ClientSecretFile != ""
	switch c.TokenEndpointAuthMethod {
	case "":
		return nil
	case oauth.AuthMethodNone:
		return nil
	case oauth.AuthMethodClientSecretBasic, oauth.AuthMethodClientSecretPost, oauth.AuthMethodClientSecretJWT:
		if !secret && c.preset.secret == nil {
			return fmt.Errorf("token_endpoint_auth_method: %s requires client_secret_file", c.TokenEndpointAuthMethod)
		}
		return nil
	case oauth.AuthMethodPrivateKeyJWT:
		if c.PrivateKeyFile == "" {
			return errors.New("token_endpoint_auth_method: private_key_jwt requires private_key_file")
		}
		return nil
	}
	return fmt.Errorf("token_endpoint_auth_method: %q is not one of none, client_secret_basic, client_secret_post, client_secret_jwt and private_key_jwt", c.TokenEndpointAuthMethod)
}

// CheckFiles returns the first reason why a file that the provider names cannot be used.
func (c Config) CheckFiles() error {
	if _, err := c.secret(); err != nil {
		return err
	}
	if _, err := c.privateKey(); err != nil {
		return err
	}
	_, _, err := c.logo()
	return err
}

// CheckAll returns every problem of a list of providers, with its index.
func CheckAll(providers []Config, report func(index int, err error)) {
	ids, domains, users := map[string]bool{}, map[string]string{}, map[string]string{}
	for i, c := range providers {
		if err := c.Check(); err != nil {
			report(i, err)
			continue
		}
		if ids[c.ID] {
			report(i, fmt.Errorf("id: %q is used twice", c.ID))
		}
		ids[c.ID] = true
		for _, domain := range c.Domains {
			if other := domains[domain]; other != "" {
				report(i, fmt.Errorf("domains: %q belongs to %q too", domain, other))
			}
			domains[domain] = c.ID
		}
		key := c.complete().userIssuer()
		if other := users[key]; other != "" {
			report(i, fmt.Errorf("issuer: %q has the same one; two clients of one provider would have the same users", other))
		}
		users[key] = c.ID
	}
}

// complete returns the provider with what its preset sets.
func (c Config) complete() Config {
	if p, ok := presets[c.Preset]; ok {
		c = p.apply(c)
	}
	if c.Name == "" {
		c.Name = c.ID
	}
	if c.Scope == "" && !c.plain() {
		c.Scope = "openid profile email"
	}
	return c
}

// userIssuer is ExternalUser.Issuer of the provider's users.
func (c Config) userIssuer() string {
	if c.Issuer != "" {
		return c.Issuer
	}
	u, err := url.Parse(c.AuthorizationEndpoint)
	if err != nil {
		return c.AuthorizationEndpoint
	}
	return u.Scheme + "://" + u.Host
}

const maxFileBytes = 64 << 10

// readFile reads a file of the operator.
func readFile(member, path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxFileBytes {
		err = fmt.Errorf("%s is larger than 64 KiB", path)
	}
	var content []byte
	if err == nil {
		content, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", member, err)
	}
	return content, nil
}

func (c *Config) secret() (string, error) {
	if c.ClientSecretFile == "" {
		return c.ClientSecret, nil
	}
	content, err := readFile("client_secret_file", c.ClientSecretFile)
	if err != nil {
		return "", err
	}
	secret := strings.TrimRight(string(content), "\r\n")
	if secret == "" || strings.ContainsAny(secret, "\r\n") {
		return "", fmt.Errorf("client_secret_file: %s must contain one line with the secret", c.ClientSecretFile)
	}
	return secret, nil
}

func (c *Config) privateKey() (crypto.Signer, error) {
	if c.PrivateKeyFile == "" {
		return nil, nil
	}
	content, err := readFile("private_key_file", c.PrivateKeyFile)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, fmt.Errorf("private_key_file: %s contains no key in PEM format", c.PrivateKeyFile)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		if key, ecErr := x509.ParseECPrivateKey(block.Bytes); ecErr == nil {
			return key, nil
		}
		return nil, fmt.Errorf("private_key_file: %s contains no private key in PKCS #8 format", c.PrivateKeyFile)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("private_key_file: a %T cannot sign", key)
	}
	return signer, nil
}

// logo returns the picture for the button, and its type by the beginning of the file.
func (c *Config) logo() (content []byte, contentType string, err error) {
	if c.LogoFile == "" {
		return nil, "", nil
	}
	if content, err = readFile("logo_file", c.LogoFile); err != nil {
		return nil, "", err
	}
	start := string(content[:min(len(content), 1024)])
	switch {
	case strings.HasPrefix(start, "\x89PNG\r\n\x1a\n"):
		contentType = "image/png"
	case strings.HasPrefix(start, "\xff\xd8\xff"):
		contentType = "image/jpeg"
	case strings.HasPrefix(start, "RIFF") && len(start) > 12 && start[8:12] == "WEBP":
		contentType = "image/webp"
	case strings.Contains(start, "<svg"):
		contentType = "image/svg+xml"
	default:
		return nil, "", fmt.Errorf("logo_file: %s is not an SVG, PNG, JPEG or WebP picture", c.LogoFile)
	}
	return content, contentType, nil
}

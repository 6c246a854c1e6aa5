package upstream

import (
	"cmp"
	"crypto"
	"errors"
	"fmt"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

// preset is what is known about a provider.
type preset struct {
	name, issuer, scope, authMethod string

	authorizationEndpoint, tokenEndpoint, userinfoEndpoint string
	// emails is the URL of a GitHub user's addresses.
	emails string
	// subject is the member that identifies the user permanently.
	subject string
	claims  map[string]string
	// responseMode is sent as response_mode.
	responseMode string
	// noUserInfo is set if the ID token has everything.
	noUserInfo bool
	// tenant is set if the claim tid must be Config.Tenant.
	tenant bool
	// secret creates a client secret.
	secret func(c *Config, key crypto.Signer, now time.Time) (string, error)
	// nameOnce is set if the name is a parameter of the first response.
	nameOnce bool
}

var presets = map[string]preset{
	// https://developers.google.com/identity/openid-connect/openid-connect
	"google": {name: "Google", issuer: "https://accounts.google.com", scope: "openid profile email", noUserInfo: true},
	// https://learn.microsoft.com/entra/identity-platform/id-token-claims-reference: oid and tid
	// identify a user. sub depends on the application; email, upn and preferred_username can be
	// changed by the tenant and reassigned. The issuer contains the tenant.
	"microsoft": {name: "Microsoft", scope: "openid profile email", subject: "oid", tenant: true, noUserInfo: true},
	// https://developer.apple.com/documentation/signinwithapple: response_mode must be form_post if
	// a scope is requested.
	"apple": {
		name: "Apple", issuer: "https://appleid.apple.com", scope: "openid name email", authMethod: oauth.AuthMethodClientSecretPost,
		responseMode: "form_post", noUserInfo: true, secret: appleSecret, nameOnce: true,
	},
	// https://docs.github.com/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps. The issuer
	// is that of its metadata, and of the parameter iss in its responses.
	"github": {
		name: "GitHub", issuer: "https://github.com/login/oauth", scope: "read:user user:email", authMethod: oauth.AuthMethodClientSecretPost,
		authorizationEndpoint: "https://github.com/login/oauth/authorize", tokenEndpoint: "https://github.com/login/oauth/access_token",
		userinfoEndpoint: "https://api.github.com/user", emails: "https://api.github.com/user/emails", subject: "id",
		claims: map[string]string{
			"name": "/name", "preferred_username": "/login", "picture": "/avatar_url", "profile": "/html_url", "website": "/blog",
		},
	},
}

// tenantID is a GUID. The names common, organizations and consumers stand for any tenant, and a
// domain name can move to another one.
var tenantID = compiled(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

func (p *preset) check(c *Config) error {
	switch {
	case p.tenant && !tenantID().MatchString(c.Tenant):
		return errors.New("tenant: the ID of the tenant in Microsoft Entra is required, such as 1b4a2f6e-0d0a-4c6e-9f3e-5a8d7c2b1e90; for several tenants, declare a provider for each")
	case p.tenant && c.Issuer != "" && c.Issuer != microsoftIssuer(c.Tenant) && !loopback(c.Issuer):
		return fmt.Errorf("issuer: remove it; it is %s", microsoftIssuer(c.Tenant))
	case p.emails != "" && (c.AuthorizationEndpoint != "" || c.TokenEndpoint != "" || c.UserinfoEndpoint != "") &&
		(c.AuthorizationEndpoint == "" || c.TokenEndpoint == "" || c.UserinfoEndpoint == ""):
		return errors.New("set all of authorization_endpoint, token_endpoint and userinfo_endpoint for GitHub Enterprise Server, or none for github.com")
	case !p.tenant && c.Tenant != "":
		return errors.New("tenant is for preset: microsoft")
	case p.secret == nil && c.TeamID != "":
		return errors.New("team_id is for preset: apple")
	case p.secret != nil && (c.TeamID == "" || c.KeyID == "" || c.PrivateKeyFile == ""):
		return errors.New("preset: apple requires team_id, key_id and private_key_file (the file AuthKey_….p8)")
	case p.secret != nil && (c.ClientSecret != "" || c.ClientSecretFile != ""):
		return errors.New("client_secret: remove it; preset: apple creates the secret from private_key_file")
	}
	return nil
}

// loopback reports whether a URL is of this machine, as in a test of a preset.
func loopback(issuer string) bool { return len(issuer) > 7 && issuer[:7] == "http://" }

func microsoftIssuer(tenant string) string {
	return "https://login.microsoftonline.com/" + tenant + "/v2.0"
}

// apply returns a configuration with what it does not name. An endpoint that it does name replaces
// that of the preset: GitHub Enterprise Server has the same API under another host.
func (p preset) apply(c Config) Config {
	c.preset = p
	c.Name = cmp.Or(c.Name, p.name)
	if p.tenant {
		c.Issuer = cmp.Or(c.Issuer, microsoftIssuer(c.Tenant))
	}
	if c.AuthorizationEndpoint == "" { // another server has other users: userIssuer
		c.Issuer = cmp.Or(c.Issuer, p.issuer)
	}
	c.Scope = cmp.Or(c.Scope, p.scope)
	c.TokenEndpointAuthMethod = cmp.Or(c.TokenEndpointAuthMethod, p.authMethod)
	c.AuthorizationEndpoint = cmp.Or(c.AuthorizationEndpoint, p.authorizationEndpoint)
	c.TokenEndpoint = cmp.Or(c.TokenEndpoint, p.tokenEndpoint)
	c.UserinfoEndpoint = cmp.Or(c.UserinfoEndpoint, p.userinfoEndpoint)
	c.Subject = cmp.Or(p.subject, c.Subject)
	if p.claims != nil {
		claims := map[string]string{}
		for name, source := range p.claims {
			claims[name] = source
		}
		for name, source := range c.Claims {
			claims[name] = source
		}
		c.Claims = claims
	}
	return c
}

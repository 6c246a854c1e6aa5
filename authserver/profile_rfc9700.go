package authserver

import (
	"fmt"
	"slices"
	"strings"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// ReportRFC9700 compares a client with the recommendations of RFC 9700, section 2, that its settings
// decide. The others are always met: exact comparison of redirect URIs, iss in the response, refresh
// tokens of public clients that are rotated, metadata, the status code 303. server is the profile of
// the server.
func ReportRFC9700(client record.Client, server string) []ProfileFinding {
	p, problem := effectiveProfile(&client, server)
	if problem != nil {
		return nil // it is reported by CheckClientProfile
	}
	p.preset(&client)
	client.ClientMetadata = client.ClientMetadata.WithDefaults()
	c := &client
	var f profileFindings
	code := c.HasGrantType(oauth.GrantTypeAuthorizationCode)
	if code {
		f.add("RFC 9700, section 2.1", "only the client can receive its authorization responses", "redirect_uris", weakRedirectURI(c))
		f.add("RFC 9700, section 2.1.1", "PKCE protects the authorization code", "require_code_challenge", weakCodeChallenge(c, p))
		f.add("RFC 9700, section 2.1.2", "no access token is in an authorization response", "response_types", tokenInResponse(c))
	}
	f.add("RFC 9700, section 2.2.1", "access tokens are bound to a key", "dpop_bound_access_tokens", unboundTokens(c, p))
	f.add("RFC 9700, section 2.3", "access tokens are for certain resources only", "resources", when(c.Resources == nil,
		"the client may request tokens for every resource: list those that it needs in resources"))
	f.add("RFC 9700, section 2.3", "the client may request only the scopes that it needs", "scope", when(c.Scope == "",
		"list the scopes that the client needs in scope"))
	f.add("RFC 9700, section 2.4", "the password grant is not used", "grant_types", when(c.HasGrantType(oauth.GrantTypePassword),
		"the application sees the user's password: use authorization_code, or device_code for devices"))
	f.add("RFC 9700, section 2.5", "the client authenticates with asymmetric cryptography", "token_endpoint_auth_method", weakAuthentication(c))
	if c.TokenEndpointAuthMethod == oauth.AuthMethodPrivateKeyJWT || c.TokenEndpointAuthMethod == oauth.AuthMethodClientSecretJWT {
		f.add("RFC 10070, section 3", "the audience of client assertions is the issuer alone", "insecure_assertion_audience",
			when(c.InsecureAssertionAudience || p.anyAudience && !p.signatures.section.applies(), "assertions for another server are accepted: send the issuer as aud"))
	}
	return f.found
}

// when returns a problem if there is one.
func when(there bool, problem string) string {
	if there {
		return problem
	}
	return ""
}

func weakRedirectURI(c *record.Client) string {
	for _, uri := range c.RedirectURIs {
		scheme, _, _ := strings.Cut(uri, ":")
		if slices.Contains(c.RedirectSchemes, scheme) {
			return fmt.Sprintf("any application can claim the scheme of %s: use https, or a scheme with the domain reversed", uri)
		}
	}
	return ""
}

func weakCodeChallenge(c *record.Client, p *profile) string {
	switch {
	case c.InsecureNoCodeChallenge || p.noCodeChallenge:
		return "requests with neither PKCE nor a nonce are accepted: remove insecure_no_code_challenge, or the profile oauth2.0"
	case !c.Public() && !c.RequireCodeChallenge && !p.codeChallengePushed.applies():
		return "an OpenID nonce replaces PKCE, if the client checks it: set require_code_challenge"
	}
	return ""
}

func tokenInResponse(c *record.Client) string {
	for _, name := range c.ResponseTypes {
		if t, _ := oauth.ParseResponseType(name); t.Token {
			return fmt.Sprintf("%q sends access tokens through the browser: use code with PKCE", name)
		}
	}
	return ""
}

func unboundTokens(c *record.Client, p *profile) string {
	return when(!c.DPoPBoundAccessTokens && !c.TLSClientCertificateBoundAccessTokens && !p.boundTokens.section.applies(),
		"whoever steals a bearer token can use it: set dpop_bound_access_tokens or tls_client_certificate_bound_access_tokens")
}

func weakAuthentication(c *record.Client) string {
	switch {
	case c.Public() && c.ApplicationType == oauth.ApplicationWeb && c.HasGrantType(oauth.GrantTypeAuthorizationCode) && len(c.AllowedOrigins) == 0:
		return "the client does not authenticate: if it runs on a server, use private_key_jwt"
	case strings.HasPrefix(c.TokenEndpointAuthMethod, "client_secret_"):
		return fmt.Sprintf("%s needs a secret that both sides store: use private_key_jwt or tls_client_auth", c.TokenEndpointAuthMethod)
	}
	return ""
}

package configuration

import (
	"fmt"
	"slices"
	"strings"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/oauth"
)

// A client secret that could be guessed causes a warning: wrong secrets never lock a client
// out, so they can be tried without limit. 128 random bits have 22 characters in base64url,
// 26 in base32 and 32 in hex, and more than 8 different ones.
const (
	shortSecret      = 22
	fewCharacters    = 8
	shortHexadecimal = 32
)

// guessable reports whether a client secret may have fewer than 128 random bits, as far as its
// form shows.
func guessable(secret string) bool {
	different := map[rune]bool{}
	for _, r := range secret {
		different[r] = true
	}
	return len(secret) < shortSecret || len(different) < fewCharacters ||
		len(secret) < shortHexadecimal && strings.Trim(secret, "0123456789abcdefABCDEF-") == ""
}

// Warnings lists what works but should be fixed. grantTypes are those that the program
// itself adds.
func (d *Declarations) Warnings(grantTypes ...authserver.GrantType) []string {
	var warnings []string
	for _, c := range d.Clients {
		for _, name := range c.GrantTypes {
			if authserver.IsExtensionGrant(name) && !slices.ContainsFunc(grantTypes, func(g authserver.GrantType) bool { return g.Name == name }) {
				warnings = append(warnings, fmt.Sprintf("client %q: the grant type %q works only in a program that embeds the server and adds it", c.ID, name))
			}
		}
		if c.Secret != "" && guessable(c.Secret) || c.SecretNext != "" && guessable(c.SecretNext) {
			warnings = append(warnings, fmt.Sprintf("client %q: client_secret can be guessed: it is short or has few different characters; use 32 random bytes, for example from openssl rand -hex 32", c.ID))
		}
		if slices.Contains(c.GrantTypes, oauth.GrantTypePassword) {
			warnings = append(warnings, fmt.Sprintf("client %q: the grant type password reveals users' passwords to the application; use authorization_code with PKCE, or device_code for devices (RFC 9700, section 2.4)", c.ID))
		}
		if c.FirstParty {
			warnings = append(warnings, fmt.Sprintf("client %q: first_party reveals users' passwords to the application, and to anyone who impersonates it; authorization_code in a browser is safer (draft-ietf-oauth-first-party-apps, section 9)", c.ID))
		}
		for _, name := range c.ResponseTypes {
			if t, _ := oauth.ParseResponseType(name); t.Token {
				warnings = append(warnings, fmt.Sprintf("client %q: response_type %q sends access tokens through the browser; use code with PKCE (RFC 9700, section 2.1.2)", c.ID, name))
			}
		}
		if c.InsecureNoCodeChallenge {
			warnings = append(warnings, fmt.Sprintf("client %q: insecure_no_code_challenge accepts requests that are protected by neither PKCE nor a nonce (RFC 9700, section 2.1.1)", c.ID))
		}
		if c.IDTokenSignedResponseAlg == "none" {
			warnings = append(warnings, fmt.Sprintf("client %q: id_token_signed_response_alg none: anyone can forge its ID tokens (RFC 8725, section 3.2)", c.ID))
		}
		if c.InsecureAssertionAudience {
			warnings = append(warnings, fmt.Sprintf("client %q: insecure_assertion_audience accepts assertions that were created for another server (RFC 10070)", c.ID))
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

// Recommendations lists valid settings for which there is a better one.
func (d *Declarations) Recommendations() []string {
	unnamed := 0
	for _, c := range d.Clients {
		if c.IDTokenSignedResponseAlg == "" && authserver.SignedResponseAlg(c.Profile) == "RS256" && slices.Contains(c.ClientMetadata.WithDefaults().GrantTypes, oauth.GrantTypeAuthorizationCode) {
			unnamed++
		}
	}
	if unnamed == 0 {
		return nil
	}
	return []string{fmt.Sprintf("id_token_signed_response_alg: clients that do not set it (%d) use RS256. ES256 signs thirty times as fast: set it for clients whose library accepts it", unnamed)}
}

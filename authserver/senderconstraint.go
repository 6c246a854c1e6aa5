package authserver

import (
	"slices"

	"github.com/valetkey/valetkey/oauth"
)

// Sender-constrained tokens: a token is bound to a key, and only a sender who proves possession of
// the key may use it. call.proven has the keys that a request proves. The access tokens that it
// gets are bound to them, and so is the refresh token of a public client: a confidential client
// authenticates with each use (RFC 9449, section 5; RFC 8705, section 4).

var (
	ruleTokenKey = rule{
		must:    "the sender proves possession of the key that the access token is bound to",
		section: "RFC 9449, section 7.1", code: oauth.InvalidToken,
		says: "the access token is bound to a key, and the request does not prove possession of it",
		fix:  "send the token with the scheme DPoP and a proof, or with the client certificate that it was issued for",
	}
	ruleTokenBound = rule{
		must:    "an access token that is sent with the scheme DPoP is bound to the key of DPoP proofs",
		section: "RFC 9449, section 7.1", code: oauth.InvalidToken,
		says: "the access token is not bound to the key of a DPoP proof",
		fix:  "send the token with the scheme Bearer, or request it with a DPoP proof",
	}
	ruleRefreshTokenKey = rule{
		must:    "the sender proves possession of the key that the refresh token is bound to",
		section: "RFC 9449, section 5", code: oauth.InvalidGrant, says: invalidRefreshToken,
		fix: "use the key with which the refresh token was requested; without it, have the user authorize the client again",
	}
)

// confirmation returns the keys that tokens of this request are bound to, nil for bearer tokens.
func (c *call) confirmation() *oauth.Confirmation {
	if c.proven == (oauth.Confirmation{}) {
		return nil
	}
	bound := c.proven
	if !c.client.bindsCertificate(bound) {
		bound.CertificateThumbprint = "" // the client may use its certificate to authenticate only
	}
	if bound == (oauth.Confirmation{}) {
		return nil
	}
	return &bound
}

// bindsCertificate reports whether access tokens are bound to the client's certificate: always, or
// because the profile requires bound tokens and there is no DPoP proof.
func (c *client) bindsCertificate(proven oauth.Confirmation) bool {
	return c.TLSClientCertificateBoundAccessTokens ||
		proven.JWKThumbprint == "" && c.profile.boundTokens.section.applies() && c.profile.boundTokens.allows(boundByCertificate)
}

// readConfirmation reads the cnf claim of another issuer. If it has unknown members, the result is a
// Confirmation that no sender can prove.
func readConfirmation(claim any) *oauth.Confirmation {
	members, ok := claim.(map[string]any)
	if !ok || len(members) != 1 {
		return &oauth.Confirmation{}
	}
	thumbprint, _ := members["jkt"].(string)
	certificate, _ := members["x5t#S256"].(string)
	return &oauth.Confirmation{JWKThumbprint: thumbprint, CertificateThumbprint: certificate}
}

// checkConfirmation checks that the sender of an access token may use it.
func (c *call) checkConfirmation(t *verifiedToken) error {
	if t.claims.Confirmation == nil {
		return nil
	}
	if t.claims.Confirmation.CertificateThumbprint != "" {
		if err := c.readCertificate(); err != nil {
			return err
		}
	}
	return c.must(t.claims.Confirmation.ProvenBy(c.proven), &ruleTokenKey)
}

// mayExchange reports whether a subject token keeps its protection when it is exchanged. A bound
// token is exchanged for an access token only, which is bound to the key that the request proves. A
// client that exchanges its own token must prove possession of that token's key. An API that a
// token was sent to has another key.
func (c *call) mayExchange(t *presentedToken, requested string) bool {
	if t.confirmation == nil {
		return true
	}
	if !slices.Contains([]string{oauth.TokenTypeAccessToken, oauth.TokenTypeJWT}, requested) || *t.confirmation == (oauth.Confirmation{}) {
		return false
	}
	if t.clientID == c.client.ID {
		return t.confirmation.ProvenBy(c.proven)
	}
	return c.confirmation() != nil
}

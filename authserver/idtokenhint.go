package authserver

import (
	"errors"
	"strings"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

// idTokenHint is what is read of an ID token of ours.
type idTokenHint struct {
	Issuer   string         `json:"iss"`
	Subject  string         `json:"sub"`
	Audience oauth.Audience `json:"aud"`
	Session  string         `json:"sid"`
}

// readIDTokenHint verifies that an ID token is ours. It may have expired (OpenID Connect
// RP-Initiated Logout, section 2), and may be encrypted to this server, by a client that
// received it encrypted (OpenID Connect Core, section 3.1.2.1).
func (c *call) readIDTokenHint(hint string) (*idTokenHint, error) {
	if jose.IsEncrypted(hint) {
		inner, err := c.decrypt(nil, hint, "", "")
		if err != nil {
			return nil, err
		}
		hint = string(inner)
	}
	payload, err := c.verifyIDToken(hint)
	if err != nil {
		return nil, err
	}
	var claims idTokenHint
	registered, err := jose.ParseClaims(payload, &claims)
	if err != nil {
		return nil, err
	}
	if registered.Expires.IsZero() { // signed UserInfo, say
		return nil, errors.New("it is not an ID token of this issuer")
	}
	if claims.Issuer != c.s.config.Issuer || claims.Subject == "" || len(claims.Audience) == 0 {
		return nil, errors.New("it is not an ID token of this issuer")
	}
	return &claims, nil
}

// verifyIDToken checks the signature, which is the audience's own if that is registered for
// HMAC.
func (c *call) verifyIDToken(token string) ([]byte, error) {
	types := []string{oauth.TypIDToken, ""}
	header, err := jose.ParseHeader(token)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(string(header.Algorithm), "HS") {
		unverified, err := jose.UnverifiedPayload(token)
		if err != nil {
			return nil, err
		}
		claims, err := jose.ParseClaims(unverified, nil)
		if err != nil || len(claims.Audience) != 1 {
			return nil, errors.New("it is not an ID token of this issuer")
		}
		if oauth.IsClientIDURL(claims.Audience[0]) {
			return nil, errors.New("its client has no secret")
		}
		cl, err := c.clientByID(claims.Audience[0])
		if err != nil || cl.IDTokenSignedResponseAlg != string(header.Algorithm) {
			return nil, errors.New("its client is not registered for its algorithm")
		}
		for _, secret := range cl.Secrets {
			payload, _, err := jose.VerifySecret(token, []byte(secret), jose.Expected{Algorithms: []jose.Algorithm{header.Algorithm}, Types: types})
			if err == nil {
				return payload, nil
			}
		}
		return nil, jose.ErrSignature
	}
	catalogue, err := c.catalogue()
	if err != nil {
		return nil, err
	}
	payload, _, err := jose.Verify(token, catalogue.keys.public, jose.Expected{Algorithms: signingAlgorithms(), Types: types})
	return payload, err
}

package authserver

import (
	"errors"

	"github.com/valetkey/valetkey/jose"
	"github.com/valetkey/valetkey/oauth"
)

// idTokenHint is what is read of an ID token of ours.
type idTokenHint struct {
	Issuer   string         `json:"iss"`
	Subject  string         `json:"sub"`
	Audience oauth.Audience `json:"aud"`
	Session  string         `json:"sid"`
}

// readIDTokenHint verifies that an ID token is ours. It may have expired (OpenID Connect
// RP-Initiated Logout, section 2).
func (s *Server) readIDTokenHint(c *call, hint string) (*idTokenHint, error) {
	catalogue, err := s.catalogue(c.r.Context())
	if err != nil {
		return nil, err
	}
	payload, _, err := jose.Verify(hint, catalogue.keys.public, jose.Expected{
		Algorithms: signingAlgorithms(), Types: []string{oauth.TypIDToken, ""},
	})
	if err != nil {
		return nil, err
	}
	var claims idTokenHint
	if _, err := jose.ParseClaims(payload, &claims); err != nil {
		return nil, err
	}
	if claims.Issuer != s.config.Issuer || claims.Subject == "" || len(claims.Audience) == 0 {
		return nil, errors.New("it is not an ID token of this issuer")
	}
	return &claims, nil
}

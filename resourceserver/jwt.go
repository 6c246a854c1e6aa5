package resourceserver

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/valetkey/valetkey/jose"
	"github.com/valetkey/valetkey/oauth"
)

// validateJWT holds RFC 9068, section 4.
func (s *ResourceServer) validateJWT(ctx context.Context, token string) (*Token, error) {
	want := jose.Expected{Algorithms: s.config.Algorithms, Types: []string{oauth.TypAccessToken}}
	now := time.Now()
	keys, err := s.issuer.keySet(ctx, now, false)
	if err != nil {
		return nil, err
	}
	payload, _, err := jose.Verify(token, keys, want)
	if errors.Is(err, jose.ErrUnknownKey) { // one that is new since the set was fetched
		if keys, err = s.issuer.keySet(ctx, now, true); err != nil {
			return nil, err
		}
		payload, _, err = jose.Verify(token, keys, want)
	}
	switch {
	case errors.Is(err, jose.ErrType):
		return nil, invalid("is a JWT of another kind: its typ is not at+jwt (RFC 9068, section 2.1)")
	case err != nil:
		return nil, invalid("has no signature of the authorization server that can be accepted")
	}
	t, claims, err := readToken(payload)
	if err != nil {
		return nil, invalid("has malformed claims: " + strings.TrimPrefix(err.Error(), "jose: "))
	}
	switch {
	case t.Expires.IsZero():
		return nil, invalid("does not say when it expires")
	case t.Subject == "":
		return nil, invalid("has no subject")
	}
	return s.check(t, claims, now)
}

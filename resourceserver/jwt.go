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
	now := time.Now()
	payload, err := s.verify(ctx, token, oauth.TypAccessToken, now)
	var bad errSignature
	switch {
	case errors.Is(err, jose.ErrType):
		return nil, invalid("is a JWT of another kind: its typ is not at+jwt (RFC 9068, section 2.1)")
	case errors.As(err, &bad):
		return nil, invalid("has no signature of the authorization server that can be accepted")
	case err != nil:
		return nil, err
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
	if t, err = s.check(t, claims, now); err != nil || !s.config.CheckStatus {
		return t, err
	}
	if err := s.checkStatus(ctx, t, now); err != nil {
		return nil, err
	}
	return t, nil
}

// errSignature says that a JWT is not one that the authorization server has signed.
type errSignature struct{ error }

func (e errSignature) Unwrap() error { return e.error }

// verify returns the payload of a JWT of the authorization server. An error that is no
// errSignature says that the server's keys could not be had.
func (s *ResourceServer) verify(ctx context.Context, token, typ string, now time.Time) ([]byte, error) {
	want := jose.Expected{Algorithms: s.config.Algorithms, Types: []string{typ}}
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
	if err != nil {
		return nil, errSignature{err}
	}
	return payload, nil
}

package resourceserver

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth/jose"
)

// validateJWT validates a JWT by RFC 9068, section 4, and by the options of its issuer.
func (s *ResourceServer) validateJWT(ctx context.Context, token string) (*Token, error) {
	now := time.Now()
	from, err := s.issuerOf(token)
	if err != nil {
		return nil, err
	}
	payload, header, err := s.verify(ctx, from, token, jose.Expected{Types: from.types()}, now)
	var bad errSignature
	switch {
	case errors.Is(err, jose.ErrType):
		return nil, invalid("is not a JWT access token: its typ is not at+jwt (RFC 9068, section 2.1)")
	case errors.As(err, &bad):
		return nil, invalid("has no valid signature of the authorization server")
	case err != nil:
		return nil, err
	}
	t, claims, err := readToken(payload, from)
	if err != nil {
		return nil, invalid("has malformed claims: " + strings.TrimPrefix(err.Error(), "jose: "))
	}
	if !isAccessTokenType(header.Type) {
		if err := checkKind(t); err != nil {
			return nil, invalid("is not a JWT access token: " + err.Error())
		}
	}
	switch {
	case t.Expires.IsZero():
		return nil, invalid("has no expiry")
	case t.Subject == "":
		return nil, invalid("has no subject")
	}
	if t, err = s.check(t, claims, from, now); err != nil || !from.CheckStatus {
		return t, err
	}
	if err := s.checkStatus(ctx, from, t, now); err != nil {
		return nil, err
	}
	return t, nil
}

// issuerOf returns the iss of a JWT that is not verified yet. It only selects the keys that
// must verify the token.
func (s *ResourceServer) issuerOf(token string) (*trusted, error) {
	payload, err := jose.UnverifiedPayload(token)
	if err != nil {
		return nil, invalid("is malformed")
	}
	claims, err := jose.ParseClaims(payload, nil)
	if err != nil {
		return nil, invalid("has malformed claims: " + strings.TrimPrefix(err.Error(), "jose: "))
	}
	from, ok := s.issuers[claims.Issuer]
	if !ok {
		return nil, invalid("was issued by another server")
	}
	return from, nil
}

// errSignature is the error for a JWT without a valid signature of the authorization server.
type errSignature struct{ error }

func (e errSignature) Unwrap() error { return e.error }

// verify verifies a JWT with the keys of an authorization server and returns its payload. If
// the cached keys do not verify it, they are fetched again, unless that was just done: the key
// may be new, or may have replaced another with the same kid or without one. Any error other
// than errSignature means that the server's keys are not available.
func (s *ResourceServer) verify(ctx context.Context, from *trusted, token string, want jose.Expected, now time.Time) ([]byte, jose.Header, error) {
	want.Algorithms = from.Algorithms
	keys, err := from.documents.keySet(ctx, now, false)
	if err != nil {
		return nil, jose.Header{}, err
	}
	payload, header, err := jose.Verify(token, keys, want)
	if otherKeysMayVerify(err, header, want) {
		if keys, err = from.documents.keySet(ctx, now, true); err != nil {
			return nil, jose.Header{}, err
		}
		payload, header, err = jose.Verify(token, keys, want)
	}
	if err != nil {
		return nil, header, errSignature{err}
	}
	return payload, header, nil
}

// otherKeysMayVerify reports whether a newer key set could change the result.
func otherKeysMayVerify(err error, header jose.Header, want jose.Expected) bool {
	return errors.Is(err, jose.ErrUnknownKey) || errors.Is(err, jose.ErrSignature) ||
		errors.Is(err, jose.ErrAlgorithm) && slices.Contains(want.Algorithms, header.Algorithm)
}

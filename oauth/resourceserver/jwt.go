package resourceserver

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth/jose"
)

// validateJWT holds RFC 9068, section 4, and what the token's issuer does otherwise.
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
		return nil, invalid("is a JWT of another kind: its typ is not at+jwt (RFC 9068, section 2.1)")
	case errors.As(err, &bad):
		return nil, invalid("has no signature of the authorization server that can be accepted")
	case err != nil:
		return nil, err
	}
	t, claims, err := readToken(payload, from)
	if err != nil {
		return nil, invalid("has malformed claims: " + strings.TrimPrefix(err.Error(), "jose: "))
	}
	if !isAccessTokenType(header.Type) {
		if err := checkKind(t); err != nil {
			return nil, invalid("is a JWT of another kind: " + err.Error())
		}
	}
	switch {
	case t.Expires.IsZero():
		return nil, invalid("does not say when it expires")
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

// issuerOf returns the issuer that a JWT claims to be of. Nothing is believed by that: its
// keys must verify the token.
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

// errSignature says that a JWT is not one that the authorization server has signed.
type errSignature struct{ error }

func (e errSignature) Unwrap() error { return e.error }

// verify returns the payload of a JWT of an authorization server. If its keys do not verify
// it, they are fetched again, unless that was done a moment ago: the key may be new, or have
// replaced another under the same kid or under none. An error that is no errSignature says
// that the server's keys could not be had.
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

// otherKeysMayVerify reports whether a newer key set could change the outcome.
func otherKeysMayVerify(err error, header jose.Header, want jose.Expected) bool {
	return errors.Is(err, jose.ErrUnknownKey) || errors.Is(err, jose.ErrSignature) ||
		errors.Is(err, jose.ErrAlgorithm) && slices.Contains(want.Algorithms, header.Algorithm)
}

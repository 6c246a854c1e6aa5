package resourceserver

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/valetkey/valetkey/jose"
	"github.com/valetkey/valetkey/oauth"
)

// jwtClaims are the claims of RFC 9068, section 2.2 that are looked at.
type jwtClaims struct {
	ClientID string  `json:"client_id"`
	Scope    string  `json:"scope"`
	ACR      string  `json:"acr"`
	AuthTime float64 `json:"auth_time"`
}

// validateJWT holds RFC 9068, section 4.
func (s *ResourceServer) validateJWT(ctx context.Context, token string) (*Token, error) {
	want := jose.Expected{Algorithms: s.config.Algorithms, Types: []string{oauth.TypAccessToken}}
	keys, err := s.issuer.keySet(ctx, time.Now(), false)
	if err != nil {
		return nil, err
	}
	payload, _, err := jose.Verify(token, keys, want)
	if errors.Is(err, jose.ErrUnknownKey) {
		// A key that is new since the set was fetched. Asked for at most twice a minute,
		// whatever strangers send.
		if keys, err = s.issuer.keySet(ctx, time.Now(), true); err != nil {
			return nil, err
		}
		payload, _, err = jose.Verify(token, keys, want)
	}
	if err != nil {
		return nil, invalid("has no signature of the authorization server that can be accepted")
	}
	var extra jwtClaims
	claims, err := jose.ParseClaims(payload, &extra)
	if err != nil {
		return nil, invalid("has malformed claims")
	}
	all := map[string]any{}
	if _, err := jose.ParseClaims(payload, &all); err != nil {
		return nil, invalid("has malformed claims")
	}
	now, clockSkew := time.Now(), s.config.ClockSkew
	switch {
	case claims.Issuer != s.config.Issuer:
		return nil, invalid("was issued by another server")
	case !slices.Contains(claims.Audience, s.config.Resource):
		return nil, invalid("is meant for another API")
	case claims.Expires.IsZero() || !now.Before(claims.Expires.Add(clockSkew)):
		return nil, invalid("has expired")
	case claims.NotBefore.Sub(now) > clockSkew || claims.IssuedAt.Sub(now) > clockSkew:
		return nil, invalid("is not valid yet")
	case claims.Subject == "":
		return nil, invalid("has no subject")
	}
	scope, err := oauth.ParseScope(extra.Scope)
	if err != nil {
		return nil, invalid("has a malformed scope")
	}
	t := &Token{
		Subject: claims.Subject, ClientID: extra.ClientID, Scope: scope, Audience: claims.Audience,
		Expires: claims.Expires, ID: claims.ID, ACR: extra.ACR, Claims: all,
	}
	if extra.AuthTime > 0 {
		t.AuthTime = time.Unix(int64(extra.AuthTime), 0)
	}
	return t, nil
}

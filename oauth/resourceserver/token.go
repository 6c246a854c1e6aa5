package resourceserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

// Token is a valid access token. Each request has its own.
type Token struct {
	// Issuer is the authorization server. A Subject is unique only together with it.
	Issuer   string
	Subject  string // whom it is about: a person, or the client itself
	ClientID string
	Scope    oauth.Scope
	Audience []string
	Expires  time.Time // zero if an introspection answer does not say
	ID       string    // jti
	ACR      string
	AuthTime time.Time // zero if the token does not say
	// Claims are all claims, or all members of the introspection answer.
	Claims map[string]any
}

type tokenKey struct{}

// TokenFromContext returns the token of a request that came through Require.
func TokenFromContext(ctx context.Context) (*Token, bool) {
	t, ok := ctx.Value(tokenKey{}).(*Token)
	return t, ok
}

// readToken reads what a JWT's payload (RFC 9068, section 2.2) and an introspection
// answer (RFC 7662, section 2.2) have in common, strictly. from says under which names; nil
// means those of the RFCs.
func readToken(document []byte, from *trusted) (*Token, jose.Claims, error) {
	all := map[string]any{}
	claims, err := jose.ParseClaims(document, &all)
	if err != nil {
		return nil, claims, err
	}
	t := &Token{
		Issuer: claims.Issuer, Subject: claims.Subject, Audience: claims.Audience, Expires: claims.Expires, ID: claims.ID, Claims: all,
	}
	var scope string
	texts := map[string]*string{"client_id": &t.ClientID, "acr": &t.ACR, "scope": &scope}
	if from != nil {
		delete(texts, "client_id")
		texts[from.ClientIDClaim] = &t.ClientID
		if from.ScopeClaims != nil {
			delete(texts, "scope")
		}
	}
	for name, target := range texts {
		if value, ok := all[name]; ok {
			if *target, ok = value.(string); !ok {
				return nil, claims, fmt.Errorf("%s is not a string", name)
			}
		}
	}
	if t.Scope, err = oauth.ParseScope(scope); err != nil {
		return nil, claims, errors.New("scope is malformed")
	}
	if from != nil && from.ScopeClaims != nil {
		if t.Scope, err = scopeOf(all, from.ScopeClaims); err != nil {
			return nil, claims, err
		}
	}
	if value, ok := all["auth_time"]; ok {
		seconds, ok := value.(float64)
		if !ok || seconds < 0 || seconds > 1<<40 {
			return nil, claims, errors.New("auth_time is not a number of seconds since 1970")
		}
		t.AuthTime = time.Unix(int64(seconds), 0)
	}
	return t, claims, nil
}

// check returns the token if it says what both kinds must say (RFC 9068, section 4; RFC
// 7662, section 4).
func (s *ResourceServer) check(t *Token, claims jose.Claims, from *trusted, now time.Time) (*Token, error) {
	skew := s.config.ClockSkew
	switch {
	case claims.Issuer != from.Issuer.Issuer:
		return nil, invalid("was issued by another server")
	case !from.accepts(t):
		return nil, invalid("is meant for another API")
	case !t.Expires.IsZero() && !now.Before(t.Expires.Add(skew)):
		return nil, invalid("has expired")
	case claims.NotBefore.Sub(now) > skew || claims.IssuedAt.Sub(now) > skew:
		return nil, invalid("is not valid yet")
	}
	// Whoever sends a token that is bound to a key shall prove the key (RFC 9449, section
	// 7.1; RFC 8705, section 3). As a bearer token it may be a stolen one.
	if _, ok := t.Claims["cnf"]; ok {
		return nil, invalid("is bound to a key, and this API takes bearer tokens only")
	}
	return t, nil
}

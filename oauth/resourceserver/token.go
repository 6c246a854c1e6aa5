package resourceserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

// Token contains what a valid access token says. Each request has its own.
type Token struct {
	// Issuer is the authorization server. A Subject is unique only together with it.
	Issuer   string
	Subject  string // sub: a user, or the client itself
	ClientID string
	Scope    oauth.Scope
	Audience []string
	Expires  time.Time // zero if an introspection response has no exp
	ID       string    // jti
	ACR      string
	AuthTime time.Time // zero if the token has no auth_time
	// Confirmation are the keys that the token is bound to; nil for a bearer token.
	Confirmation *oauth.Confirmation
	// Details are the authorization details (RFC 9396, section 9), each a JSON object.
	Details []json.RawMessage
	// Claims are all claims, or all members of the introspection response.
	Claims map[string]any
}

type tokenKey struct{}

// TokenFromContext returns the token of a request that passed Require or RequireToken.
func TokenFromContext(ctx context.Context) (*Token, bool) {
	t, ok := ctx.Value(tokenKey{}).(*Token)
	return t, ok
}

// readToken decodes strictly what a JWT's payload (RFC 9068, section 2.2) and an
// introspection response (RFC 7662, section 2.2) have in common. from has the names of the
// claims; nil means those of the RFCs.
func readToken(document []byte, from *trusted) (*Token, jose.Claims, error) {
	all := map[string]any{}
	claims, err := jose.ParseClaims(document, &all)
	if err != nil {
		return nil, claims, err
	}
	t := &Token{
		Issuer: claims.Issuer, Subject: claims.Subject, Audience: claims.Audience, Expires: claims.Expires, ID: claims.ID, Claims: all,
	}
	if all["authorization_details"] != nil {
		var members struct {
			Details []json.RawMessage `json:"authorization_details"`
		}
		if err := json.Unmarshal(document, &members); err != nil {
			return nil, claims, fmt.Errorf("read authorization_details: %w", err)
		}
		t.Details = members.Details
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
				return nil, claims, fmt.Errorf("%s must be a string", name)
			}
		}
	}
	if t.Confirmation, err = readConfirmation(all); err != nil {
		return nil, claims, err
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
			return nil, claims, errors.New("auth_time must be a number of seconds since 1970")
		}
		t.AuthTime = time.Unix(int64(seconds), 0)
	}
	return t, claims, nil
}

// check returns the token if it passes the checks that apply to JWTs and to introspection
// responses (RFC 9068, section 4; RFC 7662, section 4).
func (s *ResourceServer) check(t *Token, claims jose.Claims, from *trusted, now time.Time) (*Token, error) {
	skew := s.config.ClockSkew
	switch {
	case claims.Issuer != from.Issuer.Issuer:
		return nil, invalid("was issued by another server")
	case !from.accepts(t):
		return nil, invalid("is for another API")
	case !t.Expires.IsZero() && !now.Before(t.Expires.Add(skew)):
		return nil, invalid("has expired")
	case claims.NotBefore.Sub(now) > skew || claims.IssuedAt.Sub(now) > skew:
		return nil, invalid("is not valid yet")
	}
	return t, nil
}

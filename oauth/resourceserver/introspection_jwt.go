package resourceserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

const (
	introspectionJWT = "application/" + oauth.TypIntrospection
	// maxIntrospectionJWT limits the JWT of a response. It contains all claims of a token, encoded
	// once more.
	maxIntrospectionJWT = 64 << 10
)

// openIntrospection returns the introspection response in a JWT (RFC 9701, section 5). sent is the
// time of the request: an older response may be a recorded one, for another token or from before a
// revocation. All errors mean that the server's response is not available, and say nothing about
// the token.
func (s *ResourceServer) openIntrospection(ctx context.Context, response string, sent time.Time) ([]byte, error) {
	if len(s.config.IntrospectionDecryptionKeys) > 0 {
		signed, _, err := jose.Decrypt(response, s.config.IntrospectionDecryptionKeys, jose.PublicKeyEncryptionAlgorithms())
		if err != nil {
			return nil, fmt.Errorf("the response: %w", err)
		}
		response = string(signed)
	}
	now := time.Now()
	want := jose.Expected{Types: []string{oauth.TypIntrospection}, MaxBytes: maxIntrospectionJWT}
	payload, _, err := s.verify(ctx, s.main, response, want, now)
	if err != nil {
		return nil, fmt.Errorf("the response is not a JWT of the authorization server: %w", err)
	}
	var members struct {
		Introspection json.RawMessage `json:"token_introspection"`
	}
	claims, err := jose.ParseClaimsUpTo(maxIntrospectionJWT, payload, &members)
	if err != nil {
		return nil, fmt.Errorf("the JWT of the response: %w", err)
	}
	forThis := slices.Contains(claims.Audience, s.config.ClientID) ||
		s.config.Resource != "" && oauth.ContainsResource(claims.Audience, s.config.Resource)
	switch {
	case claims.Issuer != s.config.Issuer:
		return nil, errors.New("the JWT of the response has a different iss")
	case !forThis:
		return nil, errors.New("the JWT of the response is for another API: aud contains neither ClientID nor Resource")
	case claims.IssuedAt.Before(sent.Truncate(time.Second).Add(-s.config.ClockSkew)):
		return nil, errors.New("the JWT of the response is older than the request, or has no iat")
	case claims.IssuedAt.After(now.Add(s.config.ClockSkew)):
		return nil, errors.New("iat of the JWT of the response is in the future")
	}
	return members.Introspection, nil
}

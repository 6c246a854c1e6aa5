package authserver

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"

	"github.com/valetkey/valetkey/internal/probe"
	"github.com/valetkey/valetkey/oauth/jose"
)

// SignedProbe is the result of SignProbe.
type SignedProbe struct {
	// Token has the type probe.TokenType, no subject and no audience, so nobody accepts it.
	Token string
	// Took is how long the signature took, and KeySince when its key began to sign.
	Took     time.Duration
	KeySince time.Time
}

// SignProbe signs a token that is good for nothing but a test: whoever verifies it with the published
// key set knows that clients can verify tokens of this node.
func (s *Server) SignProbe(ctx context.Context) (SignedProbe, error) {
	now := time.Now()
	var signed SignedProbe
	catalogue, err := s.catalogue(ctx)
	if err != nil {
		return signed, err
	}
	signer, err := s.signer(ctx, catalogue, jose.ES256, now)
	if err != nil {
		return signed, err
	}
	for _, key := range catalogue.keys.keys {
		if key.ID == signer.Public().KeyID() {
			signed.KeySince = key.SignsFrom
		}
	}
	payload, err := json.Marshal(map[string]any{
		"iss": s.config.Issuer, "jti": rand.Text(), "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	})
	if err != nil {
		return signed, fmt.Errorf("encode claims: %w", err)
	}
	// The shortest of several: another goroutine may have interrupted one of them.
	for range 3 {
		began := time.Now()
		if signed.Token, err = signer.SignContext(ctx, probe.TokenType, payload); err != nil {
			return signed, fmt.Errorf("sign: %w", err)
		}
		if took := time.Since(began); signed.Took == 0 || took < signed.Took {
			signed.Took = took
		}
	}
	return signed, nil
}

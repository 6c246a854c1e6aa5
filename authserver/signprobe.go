package authserver

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"

	"github.com/valetkey/valetkey/internal/probe"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/record"
)

// probeTimeout is how long SignProbe waits: who asks waits five seconds for the whole response.
const probeTimeout = 3 * time.Second

// SignedProbe is the result of SignProbe.
type SignedProbe struct {
	// Token has the type probe.TokenType, no subject and no audience, so nobody accepts it.
	Token string
	// Took is how long the signature took, and KeySince when its key began to sign.
	Took     time.Duration
	KeySince time.Time
	// External says that the key is in Config.ExternalKeys.
	External bool
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
			signed.KeySince, signed.External = key.SignsFrom, isExternal(&key)
		}
	}
	payload, err := json.Marshal(map[string]any{
		"iss": s.config.Issuer, "jti": rand.Text(), "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	})
	if err != nil {
		return signed, fmt.Errorf("encode claims: %w", err)
	}
	// External signers may fail one by one, and those of other algorithms than ES256, too.
	var signers []*jose.Signer
	for alg := range externalAlgorithms(s.external) {
		if other := catalogue.keys.signer(alg, now); other != nil && other != signer {
			signers = append(signers, other)
		}
	}
	failed := make(chan error, len(signers)+1)
	// A signer that hangs must keep its five seconds, after which it is called failing.
	background := context.WithoutCancel(ctx)
	for _, other := range signers {
		go func() {
			_, err := other.SignContext(background, probe.TokenType, payload)
			failed <- err
		}()
	}
	done := make(chan SignedProbe, 1)
	go func() {
		signed, err := signed.sign(background, signer, payload)
		done <- signed
		failed <- err
	}()
	timeout := time.NewTimer(probeTimeout)
	defer timeout.Stop()
	for range cap(failed) {
		select {
		case err := <-failed:
			if err != nil {
				return signed, fmt.Errorf("sign: %w", err)
			}
		case <-timeout.C:
			return signed, fmt.Errorf("sign: a signature takes longer than %v", probeTimeout)
		case <-ctx.Done():
			return signed, fmt.Errorf("sign: %w", ctx.Err())
		}
	}
	return <-done, nil
}

// sign signs the payload. The time is the shortest of several: another goroutine may have interrupted one
// of them.
func (p SignedProbe) sign(ctx context.Context, signer *jose.Signer, payload []byte) (SignedProbe, error) {
	for range 3 {
		began := time.Now()
		token, err := signer.SignContext(ctx, probe.TokenType, payload)
		if err != nil {
			return p, err
		}
		p.Token = token
		if took := time.Since(began); p.Took == 0 || took < p.Took {
			p.Took = took
		}
	}
	return p, nil
}

func externalAlgorithms(keys []record.Key) map[jose.Algorithm]bool {
	algorithms := map[jose.Algorithm]bool{}
	for i := range keys {
		algorithms[keys[i].Algorithm] = true
	}
	return algorithms
}

package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

// Attestation-based client authentication (draft-ietf-oauth-attestation-based-client-auth,
// experimental; sections are those of draft -11).

// The header fields of sections 4, 5.1 and 6.2.
const (
	headerAttestation          = "OAuth-Client-Attestation"
	headerAttestationProof     = "OAuth-Client-Attestation-PoP"
	headerAttestationChallenge = "OAuth-Client-Attestation-Challenge"
)

// instance is this instance of the client, with the latest challenge of the provider.
type instance struct {
	signer *jose.Signer // of proofs of possession; nil if DPoP proofs are used

	mu        sync.Mutex
	challenge string
	stale     bool // the provider has refused the attestation as expired
}

// useAttestation prepares client authentication with attestations.
func (c *Client) useAttestation() (err error) {
	if c.config.Attestation == nil {
		return fmt.Errorf("client: %s requires Attestation", c.method)
	}
	c.instance = &instance{}
	if c.method == oauth.AuthMethodAttestationDPoP {
		if c.config.DPoPKey == nil {
			return fmt.Errorf("client: %s requires DPoPKey, the key of the attestation", c.method)
		}
		return nil
	}
	alg, err := algorithmOf(c.config.InstanceKey)
	if err != nil {
		return fmt.Errorf("client: InstanceKey for %s: %w", c.method, err)
	}
	c.instance.signer, err = jose.NewSigner(alg, "", c.config.InstanceKey)
	return err
}

// attest adds the attestation and the proof of possession to a request.
func (c *Client) attest(ctx context.Context, header http.Header) error {
	c.instance.mu.Lock()
	stale := c.instance.stale
	c.instance.mu.Unlock()
	attestation, err := c.config.Attestation(ctx, stale)
	if err != nil {
		return fmt.Errorf("get the client attestation: %w", err)
	}
	header.Set(headerAttestation, attestation)
	if c.instance.signer == nil {
		return nil
	}
	challenge, err := c.attestationChallenge(ctx)
	if err != nil {
		return err
	}
	payload, err := json.Marshal(struct {
		Audience  string `json:"aud"`
		ID        string `json:"jti"`
		IssuedAt  int64  `json:"iat"`
		Challenge string `json:"challenge,omitempty"`
	}{c.metadata.Issuer, rand.Text(), time.Now().Unix(), challenge})
	if err != nil {
		return fmt.Errorf("client: encode the proof of possession: %w", err)
	}
	proof, err := c.instance.signer.SignContext(ctx, oauth.TypClientAttestationProof, payload)
	if err != nil {
		return fmt.Errorf("client: sign the proof of possession: %w", err)
	}
	header.Set(headerAttestationProof, proof)
	return nil
}

// attestationChallenge returns the latest challenge of the provider. If there is none yet, it gets one
// from the challenge endpoint, if the provider has that (section 6).
func (c *Client) attestationChallenge(ctx context.Context) (string, error) {
	c.instance.mu.Lock()
	challenge := c.instance.challenge
	c.instance.mu.Unlock()
	if challenge != "" || c.metadata.ChallengeEndpoint == "" {
		return challenge, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint(c.metadata.ChallengeEndpoint), nil)
	if err != nil {
		return "", fmt.Errorf("client: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	got, err := c.send(req, maxResponseBytes)
	if err != nil {
		return "", fmt.Errorf("get a challenge: %w", err)
	}
	if got.status != http.StatusOK {
		return "", fmt.Errorf("get a challenge: %w", parseError(got))
	}
	var response oauth.AttestationChallengeResponse
	if err := json.Unmarshal(got.body, &response); err != nil {
		return "", fmt.Errorf("%w: the challenge endpoint sent no JSON object", ErrResponse)
	}
	c.instance.keep(response.AttestationChallenge)
	return response.AttestationChallenge, nil
}

func (i *instance) keep(challenge string) {
	if len(challenge) > 512 || !printable(challenge) {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.challenge = challenge
}

// learn keeps the challenge of a response, and reports whether another attempt may succeed (section
// 7.4).
func (i *instance) learn(got *response) bool {
	i.keep(got.header.Get(headerAttestationChallenge))
	if got.status/100 != 4 {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.stale = false
		return false
	}
	refused := parseError(got)
	if errors.Is(refused, &Error{Code: oauth.UseFreshAttestation}) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.stale = true
		return true
	}
	return errors.Is(refused, &Error{Code: oauth.UseAttestationChallenge}) && got.header.Get(headerAttestationChallenge) != ""
}

package authserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/dpop"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
)

// Attestation-based client authentication (draft-ietf-oauth-attestation-based-client-auth,
// experimental; sections are those of draft -11). The client attester, usually the backend of a
// native application, signs an attestation for the key of each instance of the application. The
// keys of the attester are the registered keys of the client (section 10.8). The instance proves
// possession of its key, with a JWT of its own or with a DPoP proof.

// The header fields of sections 4, 5.1 and 6.2, as they are written in an http.Header.
const (
	headerAttestation          = "Oauth-Client-Attestation"
	headerAttestationProof     = "Oauth-Client-Attestation-Pop"
	headerAttestationChallenge = "Oauth-Client-Attestation-Challenge"
)

// attestationProofAge is how far the iat of a proof of possession may differ from the server's time.
// The challenge, which is valid for three minutes, decides how long the proof is accepted.
const attestationProofAge = 5 * time.Minute

var (
	ruleAttestationFresh = rule{
		must:    "the client attestation has not expired",
		section: "draft-ietf-oauth-attestation-based-client-auth, section 7.1", code: oauth.UseFreshAttestation,
		says: "the client attestation has expired",
		fix:  "get a new attestation from the client attester; check the clocks",
	}
	ruleAttestationChallenge = rule{
		must:    "the proof of possession has a recent challenge of this server",
		section: "draft-ietf-oauth-attestation-based-client-auth, section 7.2", code: oauth.UseAttestationChallenge,
		says: "the proof of possession needs the challenge in the header OAuth-Client-Attestation-Challenge",
		fix:  "repeat the request with a new proof that contains the challenge",
	}
	ruleAttestationProof = rule{
		must:    "the proof of possession is signed with the attested key, for this server, and was not used before",
		section: "draft-ietf-oauth-attestation-based-client-auth, section 7.2", code: oauth.InvalidClientAttestation,
		says: "the proof of possession is not valid",
		fix:  "sign a new proof for each request with the key in cnf of the attestation: aud is the issuer, iat the current time",
	}
	ruleAttestedDPoP = rule{
		must:    "the key of the DPoP proof is the attested key",
		section: "draft-ietf-oauth-attestation-based-client-auth, section 7.3", code: oauth.InvalidClientAttestation,
		says: "the request has no DPoP proof of the attested key",
		fix:  "sign the DPoP proof with the key in cnf of the attestation, and send no OAuth-Client-Attestation-PoP",
	}
	ruleInstanceKey = rule{
		must:    "the client instance is the one that the refresh token was issued to",
		section: "draft-ietf-oauth-attestation-based-client-auth, section 10.3", code: oauth.InvalidGrant, says: invalidRefreshToken,
		fix: "use an attestation of the same key; without it, have the user authorize the client again",
	}
)

// newChallenges returns the challenges of proofs of possession: authenticated times, like DPoP nonces.
func (s *Server) newChallenges() (*dpop.Nonces, error) {
	key, err := deriveKey(s.config.Secret, "valetkey attestation challenge "+s.config.Issuer)
	if err != nil {
		return nil, err
	}
	return dpop.NewNonces(key)
}

// attestationChallenge is the challenge endpoint (section 6.3).
func (c *call) attestationChallenge() error {
	dpop.SetNonce(c.w.Header(), c.s.nonces.Current(c.now))
	return writeJSON(c.w, http.StatusOK, oauth.AttestationChallengeResponse{AttestationChallenge: c.s.challenges.Current(c.now)})
}

// presentsAttestation reports whether only an attestation identifies the client. If the request has
// a client_id, the client's registration decides. An attestation next to other credentials is
// ignored (section 7.6).
func presentsAttestation(c *call) bool {
	return attestationAlone(c) && len(c.r.Header[headerAttestationProof]) > 0
}

func presentsAttestationWithDPoP(c *call) bool {
	return attestationAlone(c) && len(c.r.Header[headerAttestationProof]) == 0
}

func attestationAlone(c *call) bool {
	return len(c.r.Header[headerAttestation]) > 0 && !c.params.has("client_id") && !presentsBasic(c) && !presentsPost(c) && !presentsAssertion(c)
}

// attestedClientID returns the client_id, or the sub of the attestation before it is verified.
func attestedClientID(c *call) (string, error) {
	if id := c.params.get("client_id"); id != "" {
		return id, nil
	}
	payload, err := jose.UnverifiedPayload(c.r.Header.Get(headerAttestation))
	if err != nil {
		return "", c.because(&ruleClientNamed, err)
	}
	claims, err := jose.ParseClaims(payload, nil)
	if err != nil {
		return "", c.because(&ruleClientNamed, err)
	}
	return claims.Subject, c.must(claims.Subject != "", &ruleClientNamed)
}

// verifyAttestation verifies an attestation and a proof of possession of its own (section 7.2).
func verifyAttestation(c *call, cl *client) error {
	key, err := c.attestedKey(cl)
	if err != nil {
		return err
	}
	c.w.Header()[headerAttestationChallenge] = []string{c.s.challenges.Current(c.now)}
	id, err := c.attestationProof(key)
	if err != nil {
		return err
	}
	if err := c.checkProof(cl); err != nil {
		return err
	}
	// A proof is accepted while its challenge is valid, and for a minute more if the clock of another
	// node is ahead.
	used := storage.Ticket{Key: ticketkind.AttestationProof.Hash(key.Thumbprint() + "\x00" + id), Expires: c.now.Add(attestationProofAge)}
	err = c.s.config.Store.Put(c.r.Context(), c.now, append(c.proofTickets(), used)...)
	if replayed := c.proofReplayed(err); replayed != nil {
		return replayed
	}
	if errors.Is(err, storage.ErrExists) {
		return c.refuse(&ruleAttestationProof, "the jti was used before")
	}
	if err != nil {
		return fmt.Errorf("mark a proof of possession as used: %w", err)
	}
	c.proofSpent()
	c.instance = key.Thumbprint()
	return c.must(true, &ruleAttestationProof)
}

// verifyAttestationWithDPoP verifies an attestation whose proof of possession is the DPoP proof
// (section 7.3).
func verifyAttestationWithDPoP(c *call, cl *client) error {
	key, err := c.attestedKey(cl)
	if err != nil {
		return err
	}
	if c.proof == nil { // the endpoint has no other use for it
		if err := c.readProof(""); err != nil {
			return err
		}
	}
	if c.proof == nil || c.proof.Thumbprint != key.Thumbprint() || len(c.r.Header[headerAttestationProof]) > 0 {
		return c.must(false, &ruleAttestedDPoP)
	}
	if err := c.checkProof(cl); err != nil {
		return err
	}
	if err := c.must(c.proof.Nonce != "", &ruleProofNonce); err != nil {
		return err
	}
	if err := c.spendProof(); err != nil {
		return err
	}
	c.instance = key.Thumbprint()
	return c.must(true, &ruleAttestedDPoP)
}

// attestedKey verifies the attestation and returns the key of the client instance (section 7.1).
func (c *call) attestedKey(cl *client) (key jose.JWK, err error) {
	if cl == nil {
		return key, errCredentials("no such client")
	}
	sent := c.r.Header[headerAttestation]
	if len(sent) != 1 {
		return key, errCredentials("the request does not have exactly one OAuth-Client-Attestation")
	}
	payload, err := verifyWithClientKeys(c.r.Context(), c.now, cl, sent[0], jose.Expected{
		Algorithms: signingAlgorithms(), Types: []string{oauth.TypClientAttestation},
	})
	if err != nil {
		return key, errCredentials("the attestation's signature: " + err.Error())
	}
	var members struct {
		Confirmation struct {
			Key json.RawMessage `json:"jwk"`
		} `json:"cnf"`
	}
	claims, err := jose.ParseClaims(payload, &members)
	if err != nil {
		return key, errCredentials("the attestation's claims: " + err.Error())
	}
	switch {
	case claims.Subject != cl.ID:
		return key, errCredentials("the attestation's sub is not the client_id")
	case claims.Expires.IsZero():
		return key, errCredentials("the attestation has no exp")
	case !claims.NotBefore.IsZero() && claims.NotBefore.Sub(c.now) > clockSkew:
		return key, errCredentials("the attestation's nbf is in the future")
	case !claims.IssuedAt.IsZero() && claims.IssuedAt.Sub(c.now) > clockSkew:
		return key, errCredentials("the attestation's iat is in the future")
	}
	if key, err = singleKey(members.Confirmation.Key); err != nil {
		return key, errCredentials("the attestation's cnf: " + err.Error())
	}
	if !c.now.Before(claims.Expires.Add(clockSkew)) {
		return key, c.refuse(&ruleAttestationFresh, "expired at "+claims.Expires.UTC().Format(time.RFC3339))
	}
	return key, c.must(true, &ruleAttestationFresh)
}

// singleKey parses a public key for signatures.
func singleKey(raw json.RawMessage) (jose.JWK, error) {
	set, err := jose.ParseKeySet(slices.Concat([]byte(`{"keys":[`), raw, []byte(`]}`)))
	if err != nil {
		return jose.JWK{}, err
	}
	if len(set.Keys) != 1 || !set.Verifies() {
		return jose.JWK{}, errors.New("it has no jwk with a public key for signatures")
	}
	return set.Keys[0], nil
}

// attestationProof verifies the proof of possession and returns its jti.
func (c *call) attestationProof(key jose.JWK) (id string, err error) {
	sent := c.r.Header[headerAttestationProof]
	if len(sent) != 1 {
		return "", c.refuse(&ruleAttestationProof, "the request does not have exactly one OAuth-Client-Attestation-PoP")
	}
	payload, _, err := jose.Verify(sent[0], &jose.KeySet{Keys: []jose.JWK{key}}, jose.Expected{
		Algorithms: signingAlgorithms(), Types: []string{oauth.TypClientAttestationProof},
	})
	if err != nil {
		return "", c.refuse(&ruleAttestationProof, "the signature: "+err.Error())
	}
	var members struct {
		Challenge string `json:"challenge"`
	}
	claims, err := jose.ParseClaims(payload, &members)
	switch {
	case err != nil:
		return "", c.refuse(&ruleAttestationProof, "the claims: "+err.Error())
	case len(claims.Audience) != 1 || claims.Audience[0] != c.s.config.Issuer:
		return "", c.refuse(&ruleAttestationProof, fmt.Sprintf("aud is %q, not the issuer %q alone", claims.Audience, c.s.config.Issuer))
	case claims.ID == "" || len(claims.ID) > 256:
		return "", c.refuse(&ruleAttestationProof, "jti is missing or too long")
	case claims.IssuedAt.IsZero() || claims.IssuedAt.Sub(c.now).Abs() > attestationProofAge:
		return "", c.refuse(&ruleAttestationProof, "iat is missing, or too far from the current time")
	case !claims.Expires.IsZero() && !c.now.Before(claims.Expires.Add(clockSkew)):
		return "", c.refuse(&ruleAttestationProof, "it has expired")
	case !claims.NotBefore.IsZero() && claims.NotBefore.Sub(c.now) > clockSkew:
		return "", c.refuse(&ruleAttestationProof, "nbf is in the future")
	}
	return claims.ID, c.must(c.s.challenges.Valid(members.Challenge, c.now), &ruleAttestationChallenge)
}

func (c *clientCheck) attester() {
	if len(c.JWKS) == 0 && c.JWKSURI == "" {
		c.report("", "%s needs jwks or jwks_uri with the keys of the client attester", c.TokenEndpointAuthMethod)
	} else if keys, err := jose.ParseKeySet(c.JWKS); len(c.JWKS) > 0 && err == nil && !keys.Verifies() {
		c.report("jwks", "%s needs a key of the client attester for signatures", c.TokenEndpointAuthMethod)
	}
}

// deviceKey returns the thumbprint of the key that identifies the sender's device: that of the client
// instance, or of the DPoP proof; "" if there is none.
func (c *call) deviceKey() string {
	if c.instance != "" {
		return c.instance
	}
	return c.proven.JWKThumbprint
}

// refreshTokenKeys returns the keys that the refresh token of a client instance (section 10.3) or of
// a public client is bound to.
func (c *call) refreshTokenKeys() *oauth.Confirmation {
	if c.instance != "" {
		return &oauth.Confirmation{JWKThumbprint: c.instance}
	}
	return c.confirmation()
}

// checkRefreshTokenKeys checks that the request proves the keys that the refresh token is bound to.
func (c *call) checkRefreshTokenKeys(bound *oauth.Confirmation) error {
	if c.instance != "" {
		return c.must(bound.ProvenBy(oauth.Confirmation{JWKThumbprint: c.instance}), &ruleInstanceKey)
	}
	return c.must(bound.ProvenBy(c.proven), &ruleRefreshTokenKey)
}

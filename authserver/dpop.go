package authserver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/dpop"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
)

// DPoP (RFC 9449): the client signs each request with a key, and its tokens are bound to that key.

// DPoPPolicy says what the server requires of DPoP proofs.
type DPoPPolicy struct {
	// RequireNonce requires that proofs contain a nonce of this server, so that a proof cannot be
	// created long before it is used. A client with RequireDPoPNonce always needs one.
	RequireNonce bool
	// MaxAge is how far the iat of a proof may differ from the server's time; the default is a
	// minute.
	MaxAge time.Duration
}

// sentProof is the verified proof of a request.
type sentProof struct {
	*dpop.Proof
	spent bool // its ID is stored
}

var (
	ruleProofValid = rule{
		must:    "the request has at most one DPoP proof, which is valid for this request",
		section: "RFC 9449, section 4.3", code: oauth.InvalidDPoPProof,
		says: "the DPoP proof is not valid", // followed by the reason
		fix:  "create a new proof for each request: htm is the method, htu the URI of the endpoint as the metadata has it, iat the current time; check the clock of the client",
	}
	ruleProofSent = rule{
		must:    "the request has a DPoP proof, if the tokens of the client must be bound to a key",
		section: "RFC 9449, section 5.2", code: oauth.InvalidDPoPProof,
		says: "the DPoP header is missing",
		fix:  "send a DPoP proof, or clear dpop_bound_access_tokens of the client",
	}
	ruleProofNonce = rule{
		must:    "the DPoP proof has a recent nonce of this server, if it has one or needs one",
		section: "RFC 9449, section 8", code: oauth.UseDPoPNonce,
		says: "the DPoP proof needs the nonce in the header DPoP-Nonce",
		fix:  "repeat the request with a new proof that contains the nonce",
	}
	ruleProofOnce = rule{
		must:    "the DPoP proof was not used before",
		section: "RFC 9449, section 11.1", code: oauth.InvalidDPoPProof,
		says: "the DPoP proof was used before",
		fix:  "create a new proof for each request, also for a retry; find out who else sends it",
	}
	ruleThumbprintSyntax = rule{
		must:    "dpop_jkt is the base64url SHA-256 thumbprint of a key",
		section: "RFC 9449, section 10", code: oauth.InvalidRequest,
		says: "dpop_jkt must be the base64url form of a SHA-256 hash, 43 characters without padding",
		fix:  "send the thumbprint of the key (RFC 7638), or leave it out",
	}
	ruleThumbprintProven = rule{
		must:    "dpop_jkt is the thumbprint of the key of the DPoP proof, if both are sent",
		section: "RFC 9449, section 10.1", code: oauth.InvalidDPoPProof,
		says: "dpop_jkt is not the thumbprint of the key of the DPoP proof",
		fix:  "use one key, or leave dpop_jkt out",
	}
	ruleCodeKey = rule{
		must:    "the sender proves possession of the key that the authorization request named",
		section: "RFC 9449, section 10", code: oauth.InvalidGrant,
		says: "the code is bound to a key, and the request does not prove possession of it",
		fix:  "redeem the code with a DPoP proof of the key whose thumbprint was sent as dpop_jkt",
	}
)

func (s *Server) newNonces() (*dpop.Nonces, error) {
	key, err := deriveKey(s.config.Secret, "valetkey DPoP nonce "+s.config.Issuer)
	if err != nil {
		return nil, err
	}
	return dpop.NewNonces(key)
}

// readProof verifies the DPoP proof of the request, if it has one. It does not check that the proof
// is new: its ticket is stored with the result of the request (proofTickets). accessToken is the
// token that is sent with the proof; "" if none is.
//
// It is called before the client authenticates, so that a client that repeats the request with a
// nonce can send the same assertion again.
func (c *call) readProof(accessToken string) error {
	if len(c.r.Header["Dpop"]) == 0 {
		return nil
	}
	dpop.SetNonce(c.w.Header(), c.s.nonces.Current(c.now))
	token, err := dpop.FromRequest(c.r.Header)
	if err == nil {
		c.proof = &sentProof{}
		c.proof.Proof, err = dpop.Verify(token, dpop.Expected{
			Method: c.r.Method, URIs: c.endpoint.uris, AccessToken: accessToken,
			Algorithms: proofAlgorithms(), MaxAge: c.s.config.DPoP.MaxAge, Now: c.now,
		})
	}
	if reason, ok := errors.AsType[dpop.Error](err); ok {
		c.proof = nil
		why := ruleProofValid
		why.says += ": " + string(reason)
		detail := string(reason)
		if reason == dpop.ErrURI {
			detail += " " + strings.Join(c.endpoint.uris, " or ")
		}
		return c.refuse(&why, detail)
	}
	if err != nil {
		return err
	}
	_ = c.must(true, &ruleProofValid)
	valid := c.s.nonces.Valid(c.proof.Nonce, c.now)
	if c.proof.Nonce == "" {
		valid = !c.s.config.DPoP.RequireNonce
	}
	if err := c.must(valid, &ruleProofNonce); err != nil {
		return err
	}
	c.proven.JWKThumbprint = c.proof.Thumbprint
	return nil
}

// proofAlgorithms returns the algorithms that proofs may be signed with.
func proofAlgorithms() []jose.Algorithm { return signingAlgorithms() }

// checkProof checks that the proof has a nonce if the client needs one, and an algorithm that the
// client's profile allows. It is called once the client is authenticated, so that the response
// reveals nothing about other clients, and before its assertion is spent.
func (c *call) checkProof(cl *client) error {
	if c.proof == nil {
		return nil
	}
	if !cl.profile.signatures.allows(c.proof.Algorithm) {
		return c.refuse(&ruleProofAlgorithm, string(c.proof.Algorithm)+", profile "+cl.profile.name)
	}
	if ahead := cl.profile.proofAhead; ahead.section.applies() && c.proof.IssuedAt.Sub(c.now) > ahead.most {
		return c.refuse(&ruleProofValid, "iat is too far in the future for the profile "+cl.profile.name)
	}
	if c.proof.Nonce != "" || !cl.RequireDPoPNonce {
		return nil
	}
	return c.must(false, &ruleProofNonce)
}

// checkProofSent checks that the request has a proof if the client's tokens must be bound.
func (c *call) checkProofSent() error {
	if !c.client.DPoPBoundAccessTokens {
		return nil
	}
	if c.proof == nil {
		dpop.SetNonce(c.w.Header(), c.s.nonces.Current(c.now))
	}
	return c.must(c.proof != nil, &ruleProofSent)
}

// proofTickets returns the ticket that marks the proof as used. It is stored together with the
// result of the request (docs/decisions/0019).
func (c *call) proofTickets() []storage.Ticket {
	if c.proof == nil || c.proof.spent {
		return nil
	}
	return []storage.Ticket{{Key: c.proof.key(), Expires: c.proof.Expires}}
}

// key returns the key of the ticket. It starts with the time, so that keys that are stored at the
// same time are close together.
func (p *sentProof) key() storage.Key {
	key := ticketkind.DPoPProof.Hash(p.Thumbprint + "\x00" + p.ID)
	binary.BigEndian.PutUint32(key.ID[:], uint32(p.IssuedAt.Unix()))
	return key
}

// proofSpent records that the proof's ticket is stored.
func (c *call) proofSpent() {
	if c.proof != nil && !c.proof.spent {
		c.proof.spent = true
		_ = c.must(true, &ruleProofOnce)
	}
}

// proofReplayed returns the refusal of a replayed proof, if its ticket is the reason why the store
// returned err; otherwise nil.
func (c *call) proofReplayed(err error) error {
	if c.proof == nil || c.proof.spent || !errors.Is(err, storage.ErrExists) {
		return nil
	}
	_, err = c.s.config.Store.Get(c.r.Context(), c.now, c.proof.key())
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up a DPoP proof: %w", err)
	}
	return c.must(false, &ruleProofOnce)
}

// spendProof marks the proof as used, for requests that store nothing else.
func (c *call) spendProof() error {
	tickets := c.proofTickets()
	if len(tickets) == 0 {
		return nil
	}
	err := c.s.config.Store.Put(c.r.Context(), c.now, tickets...)
	if errors.Is(err, storage.ErrExists) {
		return c.must(false, &ruleProofOnce)
	}
	if err != nil {
		return fmt.Errorf("mark a DPoP proof as used: %w", err)
	}
	c.proofSpent()
	return nil
}

// bindRequestToProof binds the code of an authorization request to the key of the proof with which
// the client sent the request (RFC 9449, section 10.1).
func (c *call) bindRequestToProof() error {
	if c.proof == nil {
		return nil
	}
	if !c.params.has("dpop_jkt") {
		c.params = append(c.params, param{"dpop_jkt", c.proof.Thumbprint})
		return nil
	}
	return c.must(c.params.get("dpop_jkt") == c.proof.Thumbprint, &ruleThumbprintProven)
}

// verifyProofKey checks dpop_jkt, the thumbprint of the key that the code is bound to (RFC 9449,
// section 10).
func (c *call) verifyProofKey(request *authorizationRequest) error {
	thumbprint := c.params.get("dpop_jkt")
	if thumbprint == "" {
		return nil
	}
	request.jwkThumbprint = thumbprint
	return c.must(oauth.ValidS256Challenge(thumbprint), &ruleThumbprintSyntax)
}

// checkSender checks that the sender of an access token may use it. The sender must prove possession
// of the key that the token is bound to, and use the scheme DPoP for a token that is bound to the key
// of DPoP proofs, but for no other (RFC 9449, sections 7.1 and 7.2).
func (c *call) checkSender(t *verifiedToken, token string) error {
	if c.schemeDPoP {
		if err := c.readProof(token); err != nil {
			return err
		}
		if err := c.must(c.proof != nil, &ruleProofSent); err != nil {
			return err
		}
		if t.claims.Confirmation == nil || t.claims.Confirmation.JWKThumbprint == "" {
			return c.must(false, &ruleTokenBound)
		}
	}
	return c.checkConfirmation(t)
}

func (c *clientCheck) dpop() {
	if !c.DPoPBoundAccessTokens {
		return
	}
	for i, name := range c.ResponseTypes {
		if t, _ := oauth.ParseResponseType(name); t.Token {
			c.report(fmt.Sprintf("response_types[%d]", i), "a token in the authorization response cannot be bound to a key, as dpop_bound_access_tokens requires (RFC 9449, section 5.2)")
		}
	}
}

// dpopChallenge returns the challenge for the scheme DPoP (RFC 9449, section 7.1).
func dpopChallenge(pairs ...string) oauth.Challenge {
	return oauth.NewChallenge(oauth.TokenTypeDPoP, append(pairs, "algs", oauth.Scope(dpop.AlgorithmNames(proofAlgorithms())).String())...)
}

// isProofError reports whether a resource responds to an error with 401 and a challenge.
func isProofError(code oauth.ErrorCode) bool {
	return slices.Contains([]oauth.ErrorCode{oauth.InvalidDPoPProof, oauth.UseDPoPNonce}, code)
}

package resourceserver

import (
	"errors"
	"net/http"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/clientcertificate"
	"github.com/valetkey/valetkey/oauth/dpop"
)

// Sender-constrained tokens: the client must prove possession of the key that a token is bound to.
// Without the proof, the token may be stolen.

// readConfirmation returns the cnf of a token, nil if it has none. A confirmation without a member
// that this package knows is not nil: no sender can prove it.
func readConfirmation(claims map[string]any) (*oauth.Confirmation, error) {
	value, ok := claims["cnf"]
	if !ok {
		return nil, nil
	}
	members, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("cnf must be an object")
	}
	c := &oauth.Confirmation{}
	for name, target := range map[string]*string{"jkt": &c.JWKThumbprint, "x5t#S256": &c.CertificateThumbprint} {
		if member, ok := members[name]; ok {
			if *target, ok = member.(string); !ok || *target == "" {
				return nil, errors.New("cnf must have strings")
			}
		}
	}
	return c, nil
}

// challenges returns the challenges of a rejected request that used a scheme, "" for none. pairs are
// the parameters of the challenge for that scheme.
func (s *ResourceServer) challenges(scheme string, pairs []string) []oauth.Challenge {
	if s.proofs != nil && (scheme == oauth.TokenTypeDPoP || s.proofs.required()) {
		return []oauth.Challenge{s.proofs.challenge(pairs...)}
	}
	challenges := []oauth.Challenge{oauth.NewChallenge(oauth.TokenTypeBearer, pairs...)}
	if s.proofs != nil && s.proofs.announced {
		challenges = append(challenges, s.proofs.challenge())
	}
	return challenges
}

// checkPossession checks that the sender of a request may use the token.
func (s *ResourceServer) checkPossession(r *http.Request, t *Token, raw, scheme string) error {
	if s.config.RequireCertificateBoundTokens && (t.Confirmation == nil || t.Confirmation.CertificateThumbprint == "") {
		return invalid("is not bound to a client certificate")
	}
	var proven oauth.Confirmation
	var proof *dpop.Proof
	switch bound := t.Confirmation != nil && t.Confirmation.JWKThumbprint != ""; {
	case bound && scheme == oauth.TokenTypeDPoP:
		var err error
		if proof, err = s.proofs.verify(r, raw); err != nil {
			return err
		}
		proven.JWKThumbprint = proof.Thumbprint
	case bound:
		return invalid("is bound to a key: send it with the scheme DPoP and a proof")
	case scheme == oauth.TokenTypeDPoP || s.proofs.required():
		return invalid("is not bound to the key of a DPoP proof")
	}
	if t.Confirmation == nil {
		return nil
	}
	if t.Confirmation.CertificateThumbprint != "" {
		certificates, err := s.config.ClientCertificates.Certificates(r)
		if err != nil {
			// The proxy is misconfigured.
			s.log.ErrorContext(r.Context(), "client certificate cannot be read", "error", err)
			return invalid("is bound to a client certificate, and the certificate cannot be read")
		}
		if len(certificates) > 0 {
			proven.CertificateThumbprint = clientcertificate.Thumbprint(certificates[0])
		}
	}
	if !t.Confirmation.ProvenBy(proven) {
		return invalid("is bound to a key, and the request does not prove possession of it")
	}
	if proof != nil {
		return s.proofs.use(r.Context(), proof)
	}
	return nil
}

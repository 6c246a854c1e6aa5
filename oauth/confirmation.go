package oauth

import "crypto/subtle"

// Confirmation is the cnf claim (RFC 7800, section 3.1): the keys that the sender of a token must
// prove possession of. A token that has the claim but none of these members is bound in a way that
// this package does not support, and must be refused.
type Confirmation struct {
	// JWKThumbprint is the thumbprint of the key of DPoP proofs (RFC 9449, section 6.1).
	JWKThumbprint string `json:"jkt,omitempty"`
	// CertificateThumbprint is the thumbprint of the client certificate (RFC 8705, section 3.1).
	CertificateThumbprint string `json:"x5t#S256,omitempty"`
}

// ProvenBy reports whether a sender who has proven possession of the keys in proven may use a token
// with this confirmation: each key of the token was proven. A nil Confirmation requires nothing.
func (c *Confirmation) ProvenBy(proven Confirmation) bool {
	if c == nil {
		return true
	}
	if *c == (Confirmation{}) {
		return false
	}
	return provenKey(c.JWKThumbprint, proven.JWKThumbprint) && provenKey(c.CertificateThumbprint, proven.CertificateThumbprint)
}

func provenKey(required, proven string) bool {
	return required == "" || subtle.ConstantTimeCompare([]byte(required), []byte(proven)) == 1
}

// TokenType returns the token_type of an access token with this confirmation: DPoP if it is bound to
// the key of DPoP proofs, and otherwise Bearer, also if it is bound to a certificate (RFC 8705,
// section 3).
func (c *Confirmation) TokenType() string {
	if c != nil && c.JWKThumbprint != "" {
		return TokenTypeDPoP
	}
	return TokenTypeBearer
}

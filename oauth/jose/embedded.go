package jose

import (
	"crypto"
	"encoding/json"

	strictjson "github.com/go-jose/go-jose/v4/json"
)

// VerifyEmbedded verifies a token with the public key in its own header (jwk), and returns the
// payload, the key and the header. The key is whatever the sender chose: a valid signature shows only that the
// sender has the private key, as in a DPoP proof (RFC 9449, section 4.3).
func VerifyEmbedded(token string, want Expected) (payload []byte, key JWK, h Header, err error) {
	p, err := parse(token, want.MaxBytes)
	if err != nil {
		return nil, key, p.header, err
	}
	if err := want.check(p.header); err != nil {
		return nil, key, p.header, err
	}
	if p.header.Algorithm.symmetric() {
		return nil, key, p.header, ErrAlgorithm
	}
	if key, err = embeddedKey(&p); err != nil {
		return nil, key, p.header, err
	}
	if !key.verifies(p.header.Algorithm) || !verifySignature(p.header.Algorithm, key.key, p.input, p.signature) {
		return nil, key, p.header, ErrSignature
	}
	return p.payload, key, p.header, nil
}

// embeddedKey returns the jwk in the header of a token that parse accepts. A key with private
// members is an error.
func embeddedKey(p *parts) (key JWK, err error) {
	if key, ok := plainKey(p.jwk); ok {
		return key, nil
	}
	defer recovered(&err)
	var members struct {
		Key json.RawMessage `json:"jwk"`
	}
	if err := strictjson.Unmarshal(p.rawHeader, &members); err != nil || len(members.Key) == 0 {
		return key, ErrMalformed
	}
	key, usable, err := parseJWK(members.Key)
	if err != nil || !usable {
		return key, ErrMalformed
	}
	return key, nil
}

// NewEmbeddingSigner returns a signer whose tokens have the public key in their header (jwk), and no
// kid. VerifyEmbedded verifies them.
func NewEmbeddingSigner(alg Algorithm, key crypto.Signer) (*Signer, error) {
	s, err := NewSigner(alg, "", key)
	if err != nil {
		return nil, err
	}
	s.embedded = &JWK{key: s.public.key}
	return s, nil
}

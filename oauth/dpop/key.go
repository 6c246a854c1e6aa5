package dpop

import (
	"crypto"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

// Key is the key of a client, which signs proofs. It is safe for concurrent use.
type Key struct {
	private    crypto.Signer
	signer     *jose.Signer
	thumbprint string
}

// GenerateKey generates a key for ES256, which every server supports in practice.
func GenerateKey() (*Key, error) {
	private, err := jose.GenerateKey(jose.ES256)
	if err != nil {
		return nil, err
	}
	return NewKey(jose.ES256, private)
}

// NewKey returns a key for an asymmetric algorithm. The private key can be in hardware.
func NewKey(alg jose.Algorithm, private crypto.Signer) (*Key, error) {
	signer, err := jose.NewEmbeddingSigner(alg, private)
	if err != nil {
		return nil, fmt.Errorf("DPoP key: %w", err)
	}
	return &Key{private: private, signer: signer, thumbprint: signer.Public().Thumbprint()}, nil
}

// Thumbprint returns the thumbprint of the key: the jkt of tokens that are bound to it, and the
// dpop_jkt of an authorization request (RFC 9449, section 10).
func (k *Key) Thumbprint() string { return k.thumbprint }

// Algorithm returns the algorithm of the key.
func (k *Key) Algorithm() jose.Algorithm { return k.signer.Algorithm() }

// Proof returns a new proof for one request. uri is the URI of the request; its query and fragment
// are left out. accessToken is the token that is sent with it, "" for a request to the token
// endpoint. nonce is the latest one of the server, "" if it has sent none.
func (k *Key) Proof(method, uri, accessToken, nonce string) (string, error) {
	target, err := NormalizeURI(uri)
	if err != nil {
		return "", fmt.Errorf("DPoP proof: %w", err)
	}
	var id [16]byte
	rand.Read(id[:])
	hash := ""
	if accessToken != "" {
		hash = tokenHash(accessToken)
	}
	payload, err := json.Marshal(struct {
		ID        string `json:"jti"`
		Method    string `json:"htm"`
		URI       string `json:"htu"`
		IssuedAt  int64  `json:"iat"`
		TokenHash string `json:"ath,omitempty"`
		Nonce     string `json:"nonce,omitempty"`
	}{base64.RawURLEncoding.EncodeToString(id[:]), method, target, time.Now().Unix(), hash, nonce})
	if err != nil {
		return "", fmt.Errorf("encode DPoP proof: %w", err)
	}
	proof, err := k.signer.Sign(oauth.TypDPoPProof, payload)
	if err != nil {
		return "", fmt.Errorf("sign DPoP proof: %w", err)
	}
	return proof, nil
}

// Marshal returns the private key, for a session that outlives the process. Store it like a refresh
// token.
func (k *Key) Marshal() ([]byte, error) {
	der, err := jose.MarshalPrivateKey(k.private)
	if err != nil {
		return nil, err
	}
	return append([]byte(string(k.Algorithm())+"\x00"), der...), nil
}

// ParseKey parses what Marshal returns.
func ParseKey(marshaled []byte) (*Key, error) {
	for i, b := range marshaled {
		if b != 0 {
			continue
		}
		private, err := jose.ParsePrivateKey(marshaled[i+1:])
		if err != nil {
			return nil, err
		}
		return NewKey(jose.Algorithm(marshaled[:i]), private)
	}
	return nil, fmt.Errorf("parse DPoP key: malformed")
}

// MarshalText encodes the private key, so that it is stored with tokens as JSON.
func (k *Key) MarshalText() ([]byte, error) {
	marshaled, err := k.Marshal()
	if err != nil {
		return nil, err
	}
	return base64.RawURLEncoding.AppendEncode(nil, marshaled), nil
}

// UnmarshalText decodes what MarshalText returns.
func (k *Key) UnmarshalText(text []byte) error {
	marshaled, err := base64.RawURLEncoding.AppendDecode(nil, text)
	if err != nil {
		return fmt.Errorf("parse DPoP key: %w", err)
	}
	parsed, err := ParseKey(marshaled)
	if err != nil {
		return err
	}
	*k = *parsed
	return nil
}

// Format keeps the key out of logs and messages, with any verb.
func (k Key) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "[DPoP key %s]", k.thumbprint) }

package jose

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"sync"
)

// Signer signs compact JWSs with one key. It caches the encoded header for each typ. It is
// safe for concurrent use.
type Signer struct {
	alg    Algorithm
	kid    string
	key    crypto.Signer // nil for HMAC
	secret []byte
	public JWK
	// embedded is the public key in the header; nil if the header has none.
	embedded *JWK

	mu      sync.RWMutex
	headers map[string][]byte // by typ: encoded header and its dot
}

// ContextSigner is a crypto.Signer that signs remotely, for example in a key management
// service, and uses the context of the request.
type ContextSigner interface {
	crypto.Signer
	SignContext(ctx context.Context, rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error)
}

// NewSigner returns a signer for an asymmetric key: any crypto.Signer whose public key is an
// *ecdsa.PublicKey, an *rsa.PublicKey or an ed25519.PublicKey, also one that keeps its
// private key elsewhere. It is an error if the key does not match the algorithm.
func NewSigner(alg Algorithm, kid string, key crypto.Signer) (*Signer, error) {
	if key == nil {
		return nil, errors.New("the private key is missing")
	}
	public := key.Public()
	if !alg.fits(public) {
		return nil, fmt.Errorf("a %T cannot be used with %q", key, alg)
	}
	return &Signer{alg: alg, kid: kid, key: key, public: JWK{kid: kid, alg: alg, use: useSignature, key: public}}, nil
}

// NewSecretSigner returns an HMAC signer. The secret must have at least as many bytes as the
// hash (RFC 7518, section 3.2).
func NewSecretSigner(alg Algorithm, secret []byte) (*Signer, error) {
	if !alg.symmetric() {
		return nil, fmt.Errorf("%q is not an HMAC algorithm", alg)
	}
	if len(secret) < alg.hash().Size() {
		return nil, fmt.Errorf("%s needs a secret of at least %d bytes", alg, alg.hash().Size())
	}
	return &Signer{alg: alg, secret: secret}, nil
}

// Unsigned returns payload as a compact JWS with the algorithm "none". Use it only where
// something else protects the payload (RFC 8725, section 3.2). This package never accepts it.
func Unsigned(typ string, payload []byte) (string, error) {
	header, err := json.Marshal(struct {
		Algorithm string `json:"alg"`
		Type      string `json:"typ,omitempty"`
	}{"none", typ})
	if err != nil {
		return "", fmt.Errorf("encode header: %w", err)
	}
	encoding := base64.RawURLEncoding
	return encoding.EncodeToString(header) + "." + encoding.EncodeToString(payload) + ".", nil
}

// KeyID returns the kid for headers, "" if there is none.
func (s *Signer) KeyID() string { return s.kid }

// Algorithm returns the signer's algorithm.
func (s *Signer) Algorithm() Algorithm { return s.alg }

// Public returns the public key with its kid and alg.
func (s *Signer) Public() JWK { return s.public }

// Sign signs payload and returns the compact JWS. Its header has the typ unless typ is "".
func (s *Signer) Sign(typ string, payload []byte) (string, error) {
	return s.SignContext(context.Background(), typ, payload)
}

// SignContext is Sign with a context for keys that are a ContextSigner.
func (s *Signer) SignContext(ctx context.Context, typ string, payload []byte) (string, error) {
	header, err := s.header(typ)
	if err != nil {
		return "", err
	}
	buffer := signing.Get().(*[]byte)
	b := append((*buffer)[:0], header...)
	b = base64.RawURLEncoding.AppendEncode(b, payload)
	var space [maxShortSignature]byte
	signature, err := s.signature(ctx, space[:0], b)
	token := ""
	if err == nil {
		b = append(b, '.')
		b = base64.RawURLEncoding.AppendEncode(b, signature)
		token = string(b)
	}
	if cap(b) <= maxPooledToken {
		*buffer = b
		signing.Put(buffer)
	}
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	return token, nil
}

// signing has buffers in which tokens are put together. A token is copied out of its buffer.
var signing = sync.Pool{New: func() any {
	b := make([]byte, 0, 2<<10)
	return &b
}}

const (
	// maxPooledToken is the size up to which a buffer is used again.
	maxPooledToken = 8 << 10
	// maxShortSignature is the size of an ES512 signature, the longest one apart from RSA.
	maxShortSignature = 132
)

func (s *Signer) header(typ string) ([]byte, error) {
	s.mu.RLock()
	encoded, ok := s.headers[typ]
	s.mu.RUnlock()
	if ok {
		return encoded, nil
	}
	header, err := json.Marshal(struct {
		Algorithm Algorithm `json:"alg"`
		KeyID     string    `json:"kid,omitempty"`
		Type      string    `json:"typ,omitempty"`
		Key       *JWK      `json:"jwk,omitempty"`
	}{s.alg, s.kid, typ, s.embedded})
	if err != nil {
		return nil, fmt.Errorf("encode header: %w", err)
	}
	encoded = append(base64.RawURLEncoding.AppendEncode(nil, header), '.')
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.headers == nil {
		s.headers = make(map[string][]byte)
	}
	s.headers[typ] = encoded
	return encoded, nil
}

// signature appends the signature of the input to b.
func (s *Signer) signature(ctx context.Context, b, input []byte) ([]byte, error) {
	if s.key == nil {
		mac := hmac.New(s.alg.hash().New, s.secret)
		mac.Write(input)
		return mac.Sum(b), nil
	}
	switch key := s.key.(type) {
	case ed25519.PrivateKey:
		return append(b, ed25519.Sign(key, input)...), nil
	case *ecdsa.PrivateKey:
		// Without a source of randomness, the nonce is derived from the key and the message (RFC
		// 6979), which takes a quarter less time (docs/decisions/0018).
		encoded, err := key.Sign(nil, digest(s.alg, input), s.alg.hash())
		if err != nil {
			return nil, err
		}
		return appendJoined(b, encoded, (key.Params().BitSize+7)/8)
	case *rsa.PrivateKey:
		return s.key.Sign(rand.Reader, digest(s.alg, input), s.options())
	}
	return s.remoteSignature(ctx, input)
}

func (s *Signer) options() crypto.SignerOpts {
	if s.alg.pss() {
		return s.alg.pssOptions()
	}
	return s.alg.hash()
}

// remoteSignature signs with a crypto.Signer of unknown type. It may be configured with
// another key or padding than its public key says, so the signature is verified.
func (s *Signer) remoteSignature(ctx context.Context, input []byte) ([]byte, error) {
	message, options := digest(s.alg, input), s.options()
	if _, ok := s.public.key.(ed25519.PublicKey); ok {
		message, options = input, crypto.Hash(0) // Ed25519 signs the message itself
	}
	var signature []byte
	var err error
	if remote, ok := s.key.(ContextSigner); ok {
		signature, err = remote.SignContext(ctx, rand.Reader, message, options)
	} else {
		signature, err = s.key.Sign(rand.Reader, message, options)
	}
	if err != nil {
		return nil, err
	}
	if public, ok := s.public.key.(*ecdsa.PublicKey); ok {
		var pair struct{ R, S *big.Int } // crypto.Signer returns ASN.1
		if rest, err := asn1.Unmarshal(signature, &pair); err != nil || len(rest) > 0 {
			return nil, errors.New("the signature from the key is not ASN.1")
		}
		if signature, err = joined(public, pair.R, pair.S); err != nil {
			return nil, err
		}
	}
	if !verifySignature(s.alg, s.public.key, input, signature) {
		return nil, errors.New("the signature from the key does not match its public key")
	}
	return signature, nil
}

// appendJoined appends r and s of an ASN.1 signature to b, each with a fixed width (RFC 7518,
// section 3.4). The signature is one that crypto/ecdsa has just returned.
func appendJoined(b, encoded []byte, size int) ([]byte, error) {
	sequence, rest, ok := element(encoded, 0x30)
	ok = ok && len(rest) == 0
	for range 2 {
		var integer []byte
		if ok {
			integer, sequence, ok = element(sequence, 0x02)
		}
		if len(integer) > 0 && integer[0] == 0 { // the sign of a number whose first bit is set
			integer = integer[1:]
		}
		if !ok || len(integer) == 0 || len(integer) > size {
			return nil, errors.New("r or s of the signature is out of range")
		}
		b = append(b, make([]byte, size-len(integer))...)
		b = append(b, integer...)
	}
	if len(sequence) > 0 {
		return nil, errors.New("the signature has more than r and s")
	}
	return b, nil
}

// element splits an ASN.1 element with a tag and a length of at most 255 from what follows it.
func element(b []byte, tag byte) (content, rest []byte, ok bool) {
	if len(b) < 2 || b[0] != tag {
		return nil, nil, false
	}
	length, b := int(b[1]), b[2:]
	if length == 0x81 && len(b) > 0 {
		length, b = int(b[0]), b[1:]
	} else if length >= 0x80 {
		return nil, nil, false
	}
	if length > len(b) {
		return nil, nil, false
	}
	return b[:length], b[length:], true
}

// joined concatenates r and s with a fixed width (RFC 7518, section 3.4).
func joined(key *ecdsa.PublicKey, r, s *big.Int) ([]byte, error) {
	size := (key.Params().BitSize + 7) / 8
	if r == nil || s == nil || r.Sign() <= 0 || s.Sign() <= 0 || r.BitLen() > 8*size || s.BitLen() > 8*size {
		return nil, errors.New("r or s of the signature is out of range")
	}
	signature := make([]byte, 2*size)
	r.FillBytes(signature[:size])
	s.FillBytes(signature[size:])
	return signature, nil
}

// pssOptions has the salt length that RFC 7518, section 3.5 requires.
func (a Algorithm) pssOptions() *rsa.PSSOptions {
	return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: a.hash()}
}

func digest(alg Algorithm, input []byte) []byte {
	if alg.hash() == crypto.SHA256 {
		sum := sha256.Sum256(input)
		return sum[:]
	}
	h := alg.hash().New()
	h.Write(input)
	return h.Sum(nil)
}

// LeftHash returns the left half of the hash of value, for at_hash and c_hash (OpenID Connect
// Core, section 3.1.3.6).
func LeftHash(alg Algorithm, value string) string {
	if alg.hash() == 0 {
		return ""
	}
	if alg.hash() == crypto.SHA256 {
		var space [1 << 10]byte // most tokens fit
		sum := sha256.Sum256(append(space[:0], value...))
		return base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2])
	}
	sum := digest(alg, []byte(value))
	return base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2])
}

package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"math/big"
	"slices"
	"strings"

	strictjson "github.com/go-jose/go-jose/v4/json"
)

// maxTokenBytes is the default limit for a token. Tokens in HTTP headers and URLs are far
// smaller.
const maxTokenBytes = 16 << 10

// Verification errors. They do not contain any part of the token.
var (
	ErrMalformed  = errors.New("jose: not a well-formed compact JWS")
	ErrAlgorithm  = errors.New("jose: the algorithm is not accepted")
	ErrType       = errors.New("jose: the typ is not accepted")
	ErrSignature  = errors.New("jose: the signature is not valid")
	ErrUnknownKey = errors.New("jose: the key set has no key with this kid")
)

// Header contains the members of a JOSE header that are used. Members with which a token
// could bring its own key (jwk, jku, x5c, x5u) are ignored; only VerifyEmbedded uses jwk.
type Header struct {
	Algorithm Algorithm
	KeyID     string
	Type      string
}

// Expected is what a verifier accepts.
type Expected struct {
	Algorithms []Algorithm
	// Types are the accepted values of typ, compared without case and without the prefix
	// "application/" (RFC 7515, section 4.1.9). "" accepts tokens without a typ, and a nil
	// slice any typ.
	Types []string
	// MaxBytes limits the size of the token; 0 means 16 KiB, which is ample for tokens in HTTP
	// headers and URLs.
	MaxBytes int
}

func (e Expected) check(h Header) error {
	if !slices.Contains(e.Algorithms, h.Algorithm) {
		return ErrAlgorithm
	}
	if e.Types == nil {
		return nil
	}
	typ := bareType(h.Type)
	if !slices.ContainsFunc(e.Types, func(t string) bool { return strings.EqualFold(bareType(t), typ) }) {
		return ErrType
	}
	return nil
}

func bareType(typ string) string {
	const prefix = "application/"
	if len(typ) > len(prefix) && strings.EqualFold(typ[:len(prefix)], prefix) && !strings.Contains(typ[len(prefix):], "/") {
		return typ[len(prefix):]
	}
	return typ
}

// parts contains the parts of a compact JWS.
type parts struct {
	header    Header
	rawHeader []byte
	jwk       string // the member jwk of the header, if plainHeader has read it; otherwise ""
	input     []byte // the signed bytes
	payload   []byte
	signature []byte
}

// strictBase64 rejects padding, line breaks and unused bits, so that a token has exactly one
// encoding.
var strictBase64 = base64.RawURLEncoding.Strict()

func decodeBase64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") { // encoding/base64 ignores them
		return nil, ErrMalformed
	}
	b, err := strictBase64.DecodeString(s)
	if err != nil {
		return nil, ErrMalformed
	}
	return b, nil
}

func parse(token string, maxBytes int) (parts, error) {
	var p parts
	if maxBytes == 0 {
		maxBytes = maxTokenBytes
	}
	if len(token) > maxBytes || strings.Count(token, ".") != 2 {
		return p, ErrMalformed
	}
	header, rest, _ := strings.Cut(token, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	var err error
	if p.rawHeader, err = decodeBase64(header); err != nil {
		return p, err
	}
	var plain bool
	if p.header, p.jwk, plain = plainHeader(p.rawHeader); !plain {
		if p.header, err = parseHeader(p.rawHeader); err != nil {
			return p, err
		}
	}
	if p.payload, err = decodeBase64(payload); err != nil {
		return p, err
	}
	if p.signature, err = decodeBase64(signature); err != nil {
		return p, err
	}
	p.input = []byte(token[:len(header)+1+len(payload)])
	return p, nil
}

// Limits on the members of a header.
const (
	maxAlgorithmBytes = 32
	maxKeyIDBytes     = 512
	maxTypeBytes      = 128
)

func parseHeader(raw []byte) (h Header, err error) {
	defer recovered(&err)
	if !shallow(raw, maxDepth) {
		return h, ErrMalformed
	}
	var members map[string]any
	if err := strictjson.Unmarshal(raw, &members); err != nil || members == nil {
		return h, ErrMalformed
	}
	// No extension is supported, so none may be critical (RFC 7515, section 4.1.11). b64 is
	// an extension too (RFC 7797).
	if _, ok := members["crit"]; ok {
		return h, ErrMalformed
	}
	if _, ok := members["b64"]; ok {
		return h, ErrMalformed
	}
	text := func(name string, most int) string {
		value, ok := members[name]
		if !ok {
			return ""
		}
		s, ok := value.(string)
		if !ok || len(s) > most {
			err = ErrMalformed
		}
		return s
	}
	h = Header{Algorithm: Algorithm(text("alg", maxAlgorithmBytes)), KeyID: text("kid", maxKeyIDBytes), Type: text("typ", maxTypeBytes)}
	if err == nil && h.Algorithm == "" {
		err = ErrMalformed
	}
	return h, err
}

// ParseHeader parses the header of a token without verifying the token.
func ParseHeader(token string) (Header, error) {
	p, err := parse(token, 0)
	return p.header, err
}

// UnverifiedPayload returns the payload of a token without verifying it. Use it to find out
// whose keys verify the token.
func UnverifiedPayload(token string) ([]byte, error) {
	p, err := parse(token, 0)
	return p.payload, err
}

// Verify verifies a token with a set of keys and returns its payload: with the key that has
// its kid, or, without a kid, with each key that fits. ErrUnknownKey means that the set has
// no such key; the caller may fetch the set again.
func Verify(token string, keys *KeySet, want Expected) (payload []byte, h Header, err error) {
	p, err := parse(token, want.MaxBytes)
	if err != nil {
		return nil, p.header, err
	}
	if err := want.check(p.header); err != nil {
		return nil, p.header, err
	}
	if p.header.Algorithm.symmetric() {
		return nil, p.header, ErrAlgorithm
	}
	if keys == nil {
		return nil, p.header, ErrUnknownKey
	}
	err = ErrUnknownKey
	for _, key := range keys.Keys {
		if p.header.KeyID != "" && key.kid != p.header.KeyID || !key.verifies(p.header.Algorithm) {
			continue
		}
		if verifySignature(p.header.Algorithm, key.key, p.input, p.signature) {
			return p.payload, p.header, nil
		}
		err = ErrSignature
	}
	if err == ErrUnknownKey && p.header.KeyID != "" && keys.has(p.header.KeyID) {
		err = ErrAlgorithm // the key exists, but for another use or algorithm
	}
	return nil, p.header, err
}

// VerifySecret verifies a token that was signed with HMAC.
func VerifySecret(token string, secret []byte, want Expected) (payload []byte, h Header, err error) {
	p, err := parse(token, want.MaxBytes)
	if err != nil {
		return nil, p.header, err
	}
	if err := want.check(p.header); err != nil {
		return nil, p.header, err
	}
	alg := p.header.Algorithm
	if !alg.symmetric() || len(secret) < alg.hash().Size() {
		return nil, p.header, ErrAlgorithm
	}
	mac := hmac.New(alg.hash().New, secret)
	mac.Write(p.input)
	if !hmac.Equal(mac.Sum(nil), p.signature) {
		return nil, p.header, ErrSignature
	}
	return p.payload, p.header, nil
}

func verifySignature(alg Algorithm, key crypto.PublicKey, input, signature []byte) bool {
	switch key := key.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(key, input, signature)
	case *ecdsa.PublicKey:
		size := (key.Params().BitSize + 7) / 8
		if len(signature) != 2*size {
			return false
		}
		r, s := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
		return ecdsa.Verify(key, digest(alg, input), r, s)
	case *rsa.PublicKey:
		if len(signature) != key.Size() {
			return false
		}
		if alg.pss() {
			return rsa.VerifyPSS(key, alg.hash(), digest(alg, input), signature, alg.pssOptions()) == nil
		}
		return rsa.VerifyPKCS1v15(key, alg.hash(), digest(alg, input), signature) == nil
	}
	return false
}

// recovered turns a panic in a parser into an error.
func recovered(err *error) {
	if recover() != nil {
		*err = ErrMalformed
	}
}

package jose

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	josecipher "github.com/go-jose/go-jose/v4/cipher"
)

// The supported key management algorithms (RFC 7518, section 4.1). RSA1_5 is missing because
// of its padding oracle, and PBES2 because of its cost (RFC 8725, sections 3.2 and 2.3).
const (
	RSAOAEP      Algorithm = "RSA-OAEP"
	RSAOAEP256   Algorithm = "RSA-OAEP-256"
	ECDHES       Algorithm = "ECDH-ES"
	ECDHESA128KW Algorithm = "ECDH-ES+A128KW"
	ECDHESA192KW Algorithm = "ECDH-ES+A192KW"
	ECDHESA256KW Algorithm = "ECDH-ES+A256KW"
	A128KW       Algorithm = "A128KW"
	A192KW       Algorithm = "A192KW"
	A256KW       Algorithm = "A256KW"
	A128GCMKW    Algorithm = "A128GCMKW"
	A192GCMKW    Algorithm = "A192GCMKW"
	A256GCMKW    Algorithm = "A256GCMKW"
	Direct       Algorithm = "dir"
)

// PublicKeyEncryptionAlgorithms returns the algorithms that encrypt to a public key.
func PublicKeyEncryptionAlgorithms() []Algorithm {
	return []Algorithm{ECDHES, ECDHESA128KW, ECDHESA192KW, ECDHESA256KW, RSAOAEP256, RSAOAEP}
}

// SecretEncryptionAlgorithms returns the algorithms that encrypt with a shared secret.
func SecretEncryptionAlgorithms() []Algorithm {
	return []Algorithm{Direct, A128KW, A192KW, A256KW, A128GCMKW, A192GCMKW, A256GCMKW}
}

// encryptsTo reports whether the algorithm can encrypt to a public key.
func (a Algorithm) encryptsTo(key crypto.PublicKey) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return (a == RSAOAEP || a == RSAOAEP256) && validRSA(k)
	case *ecdsa.PublicKey:
		curves := []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()}
		return a.agrees() && slices.Contains(curves, k.Curve)
	case *ecdh.PublicKey:
		return a.agrees() && k.Curve() == ecdh.X25519()
	}
	return false
}

// agrees reports whether the algorithm is one of the ECDH-ES family.
func (a Algorithm) agrees() bool {
	return a == ECDHES || a == ECDHESA128KW || a == ECDHESA192KW || a == ECDHESA256KW
}

// wrapBytes returns the size of the key that wraps the content key, 0 if nothing is wrapped.
func (a Algorithm) wrapBytes() int {
	switch a {
	case A128KW, A128GCMKW, ECDHESA128KW:
		return 16
	case A192KW, A192GCMKW, ECDHESA192KW:
		return 24
	case A256KW, A256GCMKW, ECDHESA256KW:
		return 32
	}
	return 0
}

func (a Algorithm) wrapsByGCM() bool { return a == A128GCMKW || a == A192GCMKW || a == A256GCMKW }

// Encryption is a content encryption algorithm (RFC 7518, section 5.1).
type Encryption string

// The content encryption algorithms.
const (
	A128CBCHS256 Encryption = "A128CBC-HS256"
	A192CBCHS384 Encryption = "A192CBC-HS384"
	A256CBCHS512 Encryption = "A256CBC-HS512"
	A128GCM      Encryption = "A128GCM"
	A192GCM      Encryption = "A192GCM"
	A256GCM      Encryption = "A256GCM"
)

// Encryptions returns the content encryption algorithms. The first is the default of OpenID
// Connect Registration, section 2.
func Encryptions() []Encryption {
	return []Encryption{A128CBCHS256, A192CBCHS384, A256CBCHS512, A128GCM, A192GCM, A256GCM}
}

// keyBytes returns the size of the content key, 0 for an unknown algorithm.
func (e Encryption) keyBytes() int {
	switch e {
	case A128GCM:
		return 16
	case A192GCM:
		return 24
	case A256GCM, A128CBCHS256:
		return 32
	case A192CBCHS384:
		return 48
	case A256CBCHS512:
		return 64
	}
	return 0
}

// tagBytes returns the size of the authentication tag.
func (e Encryption) tagBytes() int {
	switch e {
	case A192CBCHS384:
		return 24
	case A256CBCHS512:
		return 32
	}
	return 16
}

func (e Encryption) cipher(key []byte) (cipher.AEAD, error) {
	if len(key) != e.keyBytes() || len(key) == 0 {
		return nil, errors.New("the content key has the wrong size")
	}
	switch e {
	case A128CBCHS256, A192CBCHS384, A256CBCHS512:
		return josecipher.NewCBCHMAC(key, aes.NewCipher)
	}
	return newGCM(key)
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// SharedSecret returns a function that derives keys from a client secret: a key of n bytes is
// the first n bytes of its shortest SHA-2 hash that is long enough (OpenID Connect Core,
// section 10.2).
func SharedSecret(secret string) func(bytes int) []byte {
	return func(bytes int) []byte {
		switch {
		case bytes <= sha256.Size:
			sum := sha256.Sum256([]byte(secret))
			return sum[:bytes]
		case bytes <= sha512.Size384:
			sum := sha512.Sum384([]byte(secret))
			return sum[:bytes]
		case bytes <= sha512.Size:
			sum := sha512.Sum512([]byte(secret))
			return sum[:bytes]
		}
		return nil
	}
}

// agreedKey derives the key for the ECDH-ES family from the shared secret (RFC 7518, section
// 4.6.2).
func agreedKey(alg Algorithm, enc Encryption, private *ecdh.PrivateKey, public *ecdh.PublicKey, apu, apv []byte) ([]byte, error) {
	shared, err := private.ECDH(public)
	if err != nil {
		return nil, fmt.Errorf("agree on a key: %w", err)
	}
	purpose, size := string(alg), alg.wrapBytes()
	if alg == ECDHES {
		purpose, size = string(enc), enc.keyBytes()
	}
	bits := binary.BigEndian.AppendUint32(nil, uint32(size)*8)
	key := make([]byte, size)
	kdf := josecipher.NewConcatKDF(crypto.SHA256, shared, prefixed([]byte(purpose)), prefixed(apu), prefixed(apv), bits, nil)
	if _, err := kdf.Read(key); err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	return key, nil
}

func prefixed(data []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...)
}

// ephemeralKey is epk, a public key in a header (RFC 7518, section 4.6.1.1).
type ephemeralKey struct {
	Type  string `json:"kty"`
	Curve string `json:"crv"`
	X     string `json:"x"`
	Y     string `json:"y,omitempty"`
}

type namedCurve struct {
	name  string
	curve ecdh.Curve
	bytes int // of a coordinate
}

func namedCurves() []namedCurve {
	return []namedCurve{{"P-256", ecdh.P256(), 32}, {"P-384", ecdh.P384(), 48}, {"P-521", ecdh.P521(), 66}, {"X25519", ecdh.X25519(), 32}}
}

func newEphemeralKey(key *ecdh.PublicKey) ephemeralKey {
	encoded := key.Bytes()
	for _, c := range namedCurves() {
		switch {
		case c.curve != key.Curve():
		case c.name == "X25519":
			return ephemeralKey{Type: "OKP", Curve: c.name, X: strictBase64.EncodeToString(encoded)}
		default:
			return ephemeralKey{Type: "EC", Curve: c.name, X: strictBase64.EncodeToString(encoded[1 : 1+c.bytes]), Y: strictBase64.EncodeToString(encoded[1+c.bytes:])}
		}
	}
	return ephemeralKey{}
}

// on returns the key as a point of a curve, and an error if the point is not on the curve.
func (e ephemeralKey) on(curve ecdh.Curve) (*ecdh.PublicKey, error) {
	for _, c := range namedCurves() {
		if c.curve != curve || c.name != e.Curve {
			continue
		}
		x, err := decodeBase64(e.X)
		if err != nil {
			return nil, err
		}
		if c.name == "X25519" {
			if e.Type != "OKP" || e.Y != "" {
				return nil, ErrMalformed
			}
			return curve.NewPublicKey(x)
		}
		y, err := decodeBase64(e.Y)
		if err != nil || e.Type != "EC" || len(x) != c.bytes || len(y) != c.bytes {
			return nil, ErrMalformed
		}
		return curve.NewPublicKey(slices.Concat([]byte{4}, x, y))
	}
	return nil, ErrMalformed
}

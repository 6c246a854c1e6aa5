package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes of the algorithms
	_ "crypto/sha512"
	"math"
)

// Algorithm is a JWS algorithm, or the key management algorithm of a JWE, by its registered
// name (RFC 7518, sections 3.1 and 4.1; RFC 8037; RFC 9864).
type Algorithm string

// The supported signature algorithms.
const (
	ES256 Algorithm = "ES256"
	ES384 Algorithm = "ES384"
	ES512 Algorithm = "ES512"
	RS256 Algorithm = "RS256"
	RS384 Algorithm = "RS384"
	RS512 Algorithm = "RS512"
	PS256 Algorithm = "PS256"
	PS384 Algorithm = "PS384"
	PS512 Algorithm = "PS512"
	// EdDSA is the name of Ed25519 in RFC 8037, and Ed25519 its name in RFC 9864.
	EdDSA   Algorithm = "EdDSA"
	Ed25519 Algorithm = "Ed25519"
	HS256   Algorithm = "HS256"
	HS384   Algorithm = "HS384"
	HS512   Algorithm = "HS512"
)

// hash returns the algorithm's hash function, and zero for an unknown algorithm. Ed25519
// needs none to sign; for it, this is the hash that LeftHash uses.
func (a Algorithm) hash() crypto.Hash {
	switch a {
	case ES256, RS256, PS256, HS256:
		return crypto.SHA256
	case ES384, RS384, PS384, HS384:
		return crypto.SHA384
	case ES512, RS512, PS512, HS512, EdDSA, Ed25519:
		return crypto.SHA512
	}
	return 0
}

func (a Algorithm) symmetric() bool { return a == HS256 || a == HS384 || a == HS512 }

// pss reports whether the algorithm is RSASSA-PSS, and rsa whether it signs with RSA.
func (a Algorithm) pss() bool { return a == PS256 || a == PS384 || a == PS512 }
func (a Algorithm) rsa() bool { return a == RS256 || a == RS384 || a == RS512 || a.pss() }

// SigningAlgorithms returns the supported asymmetric signature algorithms.
func SigningAlgorithms() []Algorithm {
	return []Algorithm{ES256, ES384, ES512, RS256, RS384, RS512, PS256, PS384, PS512, EdDSA, Ed25519}
}

// minRSABits is the minimum size of a modulus (RFC 7518, section 3.3).
const minRSABits = 2048

// maxRSABits limits the cost of verifying with a key from an untrusted source.
const maxRSABits = 8192

// fits reports whether the type, curve and size of a public key match the algorithm
// (RFC 8725, section 3.1).
func (a Algorithm) fits(key crypto.PublicKey) bool {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		return a == ES256 && k.Curve == elliptic.P256() ||
			a == ES384 && k.Curve == elliptic.P384() ||
			a == ES512 && k.Curve == elliptic.P521()
	case *rsa.PublicKey:
		return a.rsa() && validRSA(k)
	case ed25519.PublicKey:
		return (a == EdDSA || a == Ed25519) && len(k) == ed25519.PublicKeySize
	}
	return false
}

func validRSA(k *rsa.PublicKey) bool {
	bits := k.N.BitLen()
	return bits >= minRSABits && bits <= maxRSABits && k.N.Bit(0) == 1 && k.E > 1 && k.E <= math.MaxInt32 && k.E&1 == 1
}

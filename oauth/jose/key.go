package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
)

// GenerateKey generates a private key for an asymmetric algorithm. RSA keys have 2048 bits;
// keys for ECDH-ES are on P-256.
func GenerateKey(alg Algorithm) (crypto.Signer, error) {
	switch alg {
	case ES256, ECDHES, ECDHESA128KW, ECDHESA192KW, ECDHESA256KW:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case ES384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case ES512:
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case RS256, RS384, RS512, PS256, PS384, PS512, RSAOAEP, RSAOAEP256:
		return rsa.GenerateKey(rand.Reader, minRSABits)
	case EdDSA, Ed25519:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	}
	return nil, fmt.Errorf("generate key: %q is not a supported asymmetric algorithm", alg)
}

// MarshalPrivateKey encodes a private key as PKCS #8 DER.
func MarshalPrivateKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("marshal private key: %w", err)
	}
	return der, nil
}

// ParsePrivateKey parses the output of MarshalPrivateKey.
func ParsePrivateKey(der []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("parse private key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("parse private key: a %T cannot sign", key)
	}
	return signer, nil
}

// Format keeps the key out of logs and error messages, for every verb.
func (s *Signer) Format(state fmt.State, _ rune) { fmt.Fprintf(state, "[%s key %q]", s.alg, s.kid) }

// Format keeps the key out of logs and error messages, for every verb.
func (d *Decrypter) Format(state fmt.State, _ rune) {
	fmt.Fprintf(state, "[decryption key %q]", d.public.kid)
}

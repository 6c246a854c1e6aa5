package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// The signatures of the floors and of the clients, without packages of this module.

const (
	es256 = "ES256"
	edDSA = "EdDSA"
)

type keys struct {
	es256   *ecdsa.PrivateKey
	ed25519 ed25519.PrivateKey
}

func newKeys() (keys, error) {
	elliptic, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return keys{}, err
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	return keys{elliptic, edwards}, err
}

// accessToken returns a JWT with the claims of an access token.
func (k keys) accessToken(algorithm string) (string, error) {
	now := time.Now().Unix()
	return k.signEncoded(algorithm, accessTokenHeaders[algorithm], map[string]any{
		"iss": "http://127.0.0.1:8080", "sub": clientID, "aud": "https://photos.example", "client_id": clientID,
		"iat": now, "exp": now + 600, "jti": newJTI(), "scope": apiScope,
	})
}

// accessTokenHeaders are encoded once, by algorithm.
var accessTokenHeaders = map[string]string{
	es256: base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","typ":"at+jwt"}`)),
	edDSA: base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"EdDSA","typ":"at+jwt"}`)),
}

func newJTI() string {
	var id [16]byte
	rand.Read(id[:])
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// sign returns a JWT with a header of these members and alg.
func (k keys) sign(algorithm string, header, claims map[string]any) (string, error) {
	header["alg"] = algorithm
	first, err := json.Marshal(header)
	if err != nil {
		return "", err
	}
	return k.signEncoded(algorithm, base64.RawURLEncoding.EncodeToString(first), claims)
}

func (k keys) signEncoded(algorithm, header string, claims map[string]any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	input := header + "." + base64.RawURLEncoding.EncodeToString(payload)
	if algorithm == edDSA {
		return input + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(k.ed25519, []byte(input))), nil
	}
	hash := sha256.Sum256([]byte(input))
	signed, err := k.es256.Sign(nil, hash[:], crypto.SHA256) // as the server does: without a random nonce
	if err != nil {
		return "", err
	}
	var r, s big.Int
	var sequence cryptobyte.String
	if text := cryptobyte.String(signed); !text.ReadASN1(&sequence, asn1.SEQUENCE) || !sequence.ReadASN1Integer(&r) || !sequence.ReadASN1Integer(&s) {
		return "", errors.New("the signature is not ASN.1")
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return input + "." + base64.RawURLEncoding.EncodeToString(signature[:]), nil
}

var errSignature = errors.New("the signature is not valid")

// verify verifies an ES256 signature, and decodes the claims.
func verify(key *ecdsa.PublicKey, token string) error {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return errSignature
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return err
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		return err
	}
	dot := strings.LastIndexByte(token, '.')
	input, encoded := token[:dot], token[dot+1:]
	signature, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil || len(signature) != 64 {
		return errSignature
	}
	hash := sha256.Sum256([]byte(input))
	if !ecdsa.Verify(key, hash[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
		return errSignature
	}
	return nil
}

// embeddedKey returns the key in the header of a DPoP proof.
func embeddedKey(token string) (*ecdsa.PublicKey, error) {
	encoded, _, _ := strings.Cut(token, ".")
	raw, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return nil, err
	}
	var header struct {
		JWK struct {
			X string `json:"x"`
			Y string `json:"y"`
		} `json:"jwk"`
	}
	if err := json.Unmarshal(raw, &header); err != nil {
		return nil, err
	}
	x, errX := base64.RawURLEncoding.DecodeString(header.JWK.X)
	y, errY := base64.RawURLEncoding.DecodeString(header.JWK.Y)
	if err := errors.Join(errX, errY); err != nil {
		return nil, err
	}
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
}

// publicJWK returns the public key as a JWK.
func (k keys) publicJWK() (map[string]any, error) {
	point, err := k.es256.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"kty": "EC", "crv": "P-256", "x": base64.RawURLEncoding.EncodeToString(point[1:33]), "y": base64.RawURLEncoding.EncodeToString(point[33:]),
	}, nil
}

// marshalPublic returns the public key as text.
func (k keys) marshalPublic() (string, error) {
	point, err := k.es256.PublicKey.Bytes()
	return base64.RawURLEncoding.EncodeToString(point), err
}

func parsePublicKey(text string) (*ecdsa.PublicKey, error) {
	point, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
}

// proof returns a DPoP proof for a request (RFC 9449, section 4.2).
func (k keys) proof(method, uri string) (string, error) {
	jwk, err := k.publicJWK()
	if err != nil {
		return "", err
	}
	return k.sign(es256, map[string]any{"typ": "dpop+jwt", "jwk": jwk}, map[string]any{
		"jti": newJTI(), "htm": method, "htu": uri, "iat": time.Now().Unix(),
	})
}

// assertion authenticates a client (RFC 7523, section 3).
func (k keys) assertion(client, audience string) (string, error) {
	now := time.Now().Unix()
	return k.sign(es256, map[string]any{}, map[string]any{
		"iss": client, "sub": client, "aud": audience, "iat": now, "exp": now + 60, "jti": newJTI(),
	})
}

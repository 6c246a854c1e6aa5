package jose

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"

	gojose "github.com/go-jose/go-jose/v4"
	strictjson "github.com/go-jose/go-jose/v4/json"
)

// JWK is a public key (RFC 7517). It cannot contain a private or symmetric key, so none can
// be published by mistake.
type JWK struct {
	kid string
	alg Algorithm // "" if unspecified
	use string    // "" if unspecified
	key crypto.PublicKey
	// certificate is the SHA-256 of the first certificate in x5c; "" if there is none.
	certificate string
}

// The values of use (RFC 7517, section 4.2).
const (
	useSignature  = "sig"
	useEncryption = "enc"
)

// CertificateThumbprint returns the x5t#S256 of the first certificate in x5c (RFC 7517, section
// 4.7), which has this key; "" if there is none.
func (k JWK) CertificateThumbprint() string { return k.certificate }

// KeyID returns the key's kid.
func (k JWK) KeyID() string { return k.kid }

// Algorithm returns the key's alg, "" if it has none.
func (k JWK) Algorithm() Algorithm { return k.alg }

// WithAlgorithm returns a copy of the key with another alg.
func (k JWK) WithAlgorithm(alg Algorithm) JWK {
	k.alg = alg
	return k
}

// verifies reports whether the key may be used with an algorithm.
func (k JWK) verifies(alg Algorithm) bool {
	return k.use != useEncryption && alg.fits(k.key) && (k.alg == "" || k.alg == alg)
}

// encrypts reports whether an algorithm may encrypt to the key.
func (k JWK) encrypts(alg Algorithm) bool {
	return k.use != useSignature && alg.encryptsTo(k.key) && (k.alg == "" || k.alg == alg)
}

// MarshalJSON writes the public members with kid, alg and use.
func (k JWK) MarshalJSON() ([]byte, error) {
	switch key := k.key.(type) {
	case *ecdsa.PublicKey, *rsa.PublicKey, ed25519.PublicKey:
	case *ecdh.PublicKey:
		return json.Marshal(octetKeyPair{Type: "OKP", KeyID: k.kid, Curve: "X25519", Algorithm: k.alg, Use: k.use,
			X: base64.RawURLEncoding.EncodeToString(key.Bytes())})
	default:
		return nil, fmt.Errorf("marshal JWK: a %T is not a public key", k.key)
	}
	return gojose.JSONWebKey{Key: k.key, KeyID: k.kid, Algorithm: string(k.alg), Use: k.use}.MarshalJSON()
}

// octetKeyPair is an X25519 key (RFC 8037, section 2), which go-jose does not support.
type octetKeyPair struct {
	Type      string    `json:"kty"`
	KeyID     string    `json:"kid,omitempty"`
	Curve     string    `json:"crv"`
	Algorithm Algorithm `json:"alg,omitempty"`
	Use       string    `json:"use,omitempty"`
	X         string    `json:"x"`
}

func parseX25519(raw []byte) (key JWK, ok bool) {
	var members octetKeyPair
	if err := strictjson.Unmarshal(raw, &members); err != nil || members.Type != "OKP" || members.Curve != "X25519" {
		return key, false
	}
	x, err := decodeBase64(members.X)
	if err != nil {
		return key, false
	}
	public, err := ecdh.X25519().NewPublicKey(x)
	return JWK{kid: members.KeyID, alg: members.Algorithm, key: public}, err == nil
}

// Thumbprint returns the base64url SHA-256 thumbprint (RFC 7638).
func (k JWK) Thumbprint() string {
	if key, ok := k.key.(*ecdh.PublicKey); ok {
		sum := sha256.Sum256([]byte(`{"crv":"X25519","kty":"OKP","x":"` + base64.RawURLEncoding.EncodeToString(key.Bytes()) + `"}`))
		return base64.RawURLEncoding.EncodeToString(sum[:])
	}
	if key, ok := k.key.(*ecdsa.PublicKey); ok {
		point, err := key.Bytes() // 4, x, y
		if err != nil {
			return ""
		}
		x, y := point[1:1+len(point)/2], point[1+len(point)/2:]
		document := make([]byte, 0, 256)
		document = append(append(append(document, `{"crv":"`...), key.Params().Name...), `","kty":"EC","x":"`...)
		document = append(base64.RawURLEncoding.AppendEncode(document, x), `","y":"`...)
		document = append(base64.RawURLEncoding.AppendEncode(document, y), `"}`...)
		sum := sha256.Sum256(document)
		return base64.RawURLEncoding.EncodeToString(sum[:])
	}
	sum, err := (&gojose.JSONWebKey{Key: k.key}).Thumbprint(crypto.SHA256)
	if err != nil { // only for a key type that a JWK cannot contain
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(sum)
}

// KeySet is a JWK Set (RFC 7517, section 5).
type KeySet struct {
	Keys []JWK `json:"keys"`
}

func (s *KeySet) has(kid string) bool {
	return slices.ContainsFunc(s.Keys, func(k JWK) bool { return k.kid == kid })
}

// Verifies reports whether the set has a key for verifying signatures.
func (s *KeySet) Verifies() bool {
	return s != nil && slices.ContainsFunc(s.Keys, func(k JWK) bool { return slices.ContainsFunc(SigningAlgorithms(), k.verifies) })
}

// HasCertificate reports whether a key of the set has the certificate with an x5t#S256.
func (s *KeySet) HasCertificate(thumbprint string) bool {
	return s != nil && thumbprint != "" && slices.ContainsFunc(s.Keys, func(k JWK) bool { return k.certificate == thumbprint })
}

// HasCertificates reports whether a key of the set has a certificate.
func (s *KeySet) HasCertificates() bool {
	return s != nil && slices.ContainsFunc(s.Keys, func(k JWK) bool { return k.certificate != "" })
}

// Limits for key sets from untrusted sources.
const (
	maxKeySetBytes = 512 << 10
	maxKeys        = 100
)

// ParseKeySet parses a key set from an untrusted source. It skips keys that cannot be used:
// unsupported types and weak keys. A set that contains private or symmetric keys, or two keys
// with the same kid and algorithm, is an error.
func ParseKeySet(document []byte) (set *KeySet, err error) {
	return parseKeySet(document, false)
}

// ParsePublishedKeySet parses the key set that an authorization server publishes. A reader
// usually needs one key of it, so a bad key must not make the others unusable: malformed keys
// and keys that are an error in ParseKeySet are skipped, and keys that share a kid are all
// kept. A set without any usable key is an error, so that its reader keeps the previous set.
func ParsePublishedKeySet(document []byte) (*KeySet, error) {
	return parseKeySet(document, true)
}

func parseKeySet(document []byte, skip bool) (set *KeySet, err error) {
	defer func() {
		if recover() != nil {
			set, err = nil, errors.New("read JWK Set: malformed key")
		}
	}()
	if len(document) > maxKeySetBytes || !shallow(document, maxDepth) {
		return nil, errors.New("read JWK Set: too large or too deep")
	}
	var raw struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := strictjson.Unmarshal(document, &raw); err != nil {
		return nil, errors.New("read JWK Set: not a JSON object with the array keys")
	}
	if raw.Keys == nil {
		return nil, errors.New("read JWK Set: keys is missing")
	}
	if len(raw.Keys) > maxKeys {
		return nil, fmt.Errorf("read JWK Set: more than %d keys", maxKeys)
	}
	set = &KeySet{Keys: []JWK{}}
	for i, member := range raw.Keys {
		key, usable, err := parseJWK(member)
		if err != nil && !skip {
			return nil, fmt.Errorf("read JWK Set: keys[%d]: %w", i, err)
		}
		if err != nil || !usable {
			continue
		}
		if !skip && key.kid != "" && slices.ContainsFunc(set.Keys, func(k JWK) bool { return k.kid == key.kid && k.alg == key.alg && k.use == key.use }) {
			return nil, fmt.Errorf("read JWK Set: keys[%d]: another key has this kid", i)
		}
		set.Keys = append(set.Keys, key)
	}
	if skip && len(set.Keys) == 0 && len(raw.Keys) > 0 {
		return nil, errors.New("read JWK Set: it has no usable key")
	}
	return set, nil
}

func parseJWK(raw []byte) (key JWK, usable bool, err error) {
	defer func() {
		if recover() != nil {
			key, usable, err = JWK{}, false, errors.New("malformed key")
		}
	}()
	var members map[string]any
	if err := strictjson.Unmarshal(raw, &members); err != nil || members == nil {
		return key, false, errors.New("not a JSON object, or it has duplicate members")
	}
	for _, private := range [...]string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, ok := members[private]; ok {
			return key, false, errors.New("it contains private or symmetric key material")
		}
	}
	use, ok := useOf(members)
	if !ok {
		return key, false, nil
	}
	if members["crv"] == "X25519" {
		if key, usable = parseX25519(raw); !usable {
			return key, false, nil
		}
	} else {
		var parsed gojose.JSONWebKey
		if err := parsed.UnmarshalJSON(raw); err != nil {
			return key, false, nil // a type or curve that go-jose does not support, or an invalid point
		}
		key = JWK{kid: parsed.KeyID, alg: Algorithm(parsed.Algorithm), key: parsed.Key}
		if len(parsed.Certificates) > 0 { // go-jose checks that the first one has the key
			sum := sha256.Sum256(parsed.Certificates[0].Raw)
			key.certificate = base64.RawURLEncoding.EncodeToString(sum[:])
		}
	}
	key.use = use
	if k, ok := key.key.(*rsa.PublicKey); ok && guessable(k.N) {
		return key, false, nil
	}
	return key, slices.ContainsFunc(SigningAlgorithms(), key.verifies) ||
		slices.ContainsFunc(PublicKeyEncryptionAlgorithms(), key.encrypts), nil
}

// useOf returns the use of a key from its use or key_ops (RFC 7517, sections 4.2 and 4.3), ""
// if it has neither. It reports false for an unknown use.
func useOf(members map[string]any) (use string, ok bool) {
	if value, has := members["use"]; has {
		use, _ = value.(string)
		if use != useSignature && use != useEncryption {
			return "", false
		}
	}
	value, has := members["key_ops"]
	if !has {
		return use, true
	}
	operations, isList := value.([]any)
	if !isList {
		return "", false
	}
	may := func(names ...any) bool {
		return slices.ContainsFunc(operations, func(o any) bool { return slices.Contains(names, o) })
	}
	switch signs, encrypts := may("verify"), may("encrypt", "wrapKey", "deriveKey", "deriveBits"); {
	case signs && encrypts:
		return use, true
	case signs && use != useEncryption:
		return useSignature, true
	case encrypts && use != useSignature:
		return useEncryption, true
	}
	return "", false
}

// guessable reports whether a modulus was probably generated by the library whose primes can
// be computed from the modulus (ROCA, CVE-2017-15361): modulo each small prime it is a power
// of 65537. About one random modulus in 2^28 is a false positive.
func guessable(modulus *big.Int) bool {
	rest := new(big.Int)
	for p := uint64(3); p <= 167; p += 2 {
		if !big.NewInt(int64(p)).ProbablyPrime(0) {
			continue
		}
		want := rest.Mod(modulus, new(big.Int).SetUint64(p)).Uint64()
		power := uint64(1)
		for range p {
			if power == want {
				break
			}
			power = power * 65537 % p
		}
		if power != want {
			return false
		}
	}
	return true
}

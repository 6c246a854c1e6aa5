package jose

import (
	"crypto"
	"crypto/aes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"

	josecipher "github.com/go-jose/go-jose/v4/cipher"
	strictjson "github.com/go-jose/go-jose/v4/json"
)

// maxEncryptedBytes limits a JWE: it contains a token, base64url-encoded a second time.
const maxEncryptedBytes = maxTokenBytes * 3 / 2

// ErrDecryption is returned for every failure to decrypt. It does not say why, because that
// would help an attacker.
var ErrDecryption = errors.New("jose: the JWE cannot be decrypted")

// EncryptedHeader contains the members of a JWE header that are used.
type EncryptedHeader struct {
	Algorithm   Algorithm
	Encryption  Encryption
	KeyID       string
	ContentType string
}

// Decrypter decrypts JWEs with one private key. It is safe for concurrent use.
type Decrypter struct {
	rsa    *rsa.PrivateKey
	agree  *ecdh.PrivateKey
	public JWK
}

// NewDecrypter returns a decrypter for an *rsa.PrivateKey, an *ecdsa.PrivateKey or an
// *ecdh.PrivateKey on X25519. Its public key has the use "enc" and no alg: any algorithm for
// this type of key can be used.
func NewDecrypter(kid string, key crypto.PrivateKey) (*Decrypter, error) {
	d := &Decrypter{public: JWK{kid: kid, use: useEncryption}}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		d.rsa, d.public.key = key, &key.PublicKey
	case *ecdsa.PrivateKey:
		var err error
		if d.agree, err = key.ECDH(); err != nil {
			return nil, fmt.Errorf("convert the key for decryption: %w", err)
		}
		d.public.key = &key.PublicKey
	case *ecdh.PrivateKey:
		d.agree, d.public.key = key, key.PublicKey()
	default:
		return nil, fmt.Errorf("a %T cannot decrypt", key)
	}
	if !slices.ContainsFunc(PublicKeyEncryptionAlgorithms(), d.public.encrypts) {
		return nil, fmt.Errorf("this %T is too weak, or its curve is not supported", key)
	}
	return d, nil
}

// Public returns the public key to encrypt to.
func (d *Decrypter) Public() JWK { return d.public }

// IsEncrypted reports whether a token has the five parts of a compact JWE.
func IsEncrypted(token string) bool { return strings.Count(token, ".") == 4 }

// ParseEncryptedHeader parses the header of a JWE without decrypting it.
func ParseEncryptedHeader(token string) (EncryptedHeader, error) {
	e, err := parseEncrypted(token)
	return e.header, err
}

// Decrypt decrypts a JWE that uses one of the algorithms. It uses the key with the JWE's kid;
// without a kid, it tries the keys in order.
func Decrypt(token string, keys []*Decrypter, algorithms []Algorithm) (payload []byte, h EncryptedHeader, err error) {
	defer opened(&payload, &err)
	e, err := parseEncrypted(token)
	if err != nil {
		return nil, e.header, err
	}
	if !slices.Contains(algorithms, e.header.Algorithm) {
		return nil, e.header, ErrAlgorithm
	}
	for _, d := range keys {
		if e.header.KeyID != "" && e.header.KeyID != d.public.kid || !d.public.encrypts(e.header.Algorithm) {
			continue
		}
		key, err := d.contentKey(&e)
		if err != nil {
			continue
		}
		if payload, err := e.open(key); err == nil {
			return payload, e.header, nil
		}
	}
	return nil, e.header, ErrDecryption
}

// DecryptSecret decrypts a JWE that uses one of the algorithms with a key that is shared with
// the sender; secret returns the key with the given number of bytes.
func DecryptSecret(token string, secret func(bytes int) []byte, algorithms []Algorithm) (payload []byte, h EncryptedHeader, err error) {
	defer opened(&payload, &err)
	e, err := parseEncrypted(token)
	if err != nil {
		return nil, e.header, err
	}
	alg := e.header.Algorithm
	if !slices.Contains(SecretEncryptionAlgorithms(), alg) || !slices.Contains(algorithms, alg) {
		return nil, e.header, ErrAlgorithm
	}
	var key []byte
	if alg == Direct {
		if len(e.key) > 0 {
			return nil, e.header, ErrMalformed
		}
		key = secret(e.header.Encryption.keyBytes())
	} else if key, err = e.unwrap(secret(alg.wrapBytes())); err != nil {
		return nil, e.header, ErrDecryption
	}
	if payload, err = e.open(key); err != nil {
		return nil, e.header, ErrDecryption
	}
	return payload, e.header, nil
}

// opened turns a panic in a cipher into an error.
func opened(payload *[]byte, err *error) {
	if recover() != nil {
		*payload, *err = nil, ErrDecryption
	}
}

// encrypted contains the parts of a compact JWE.
type encrypted struct {
	header    EncryptedHeader
	ephemeral ephemeralKey
	apu, apv  []byte
	keyIV     []byte
	keyTag    []byte

	protected  string
	key        []byte
	iv, sealed []byte // sealed ends with the tag
}

func parseEncrypted(token string) (encrypted, error) {
	var e encrypted
	if len(token) > maxEncryptedBytes || !IsEncrypted(token) {
		return e, ErrMalformed
	}
	parts := strings.Split(token, ".")
	var decoded [5][]byte
	for i, part := range parts {
		var err error
		if decoded[i], err = decodeBase64(part); err != nil {
			return e, err
		}
	}
	e.protected, e.key, e.iv = parts[0], decoded[1], decoded[2]
	if err := e.parseHeader(decoded[0]); err != nil {
		return e, err
	}
	if len(decoded[4]) != e.header.Encryption.tagBytes() {
		return e, ErrMalformed
	}
	e.sealed = slices.Concat(decoded[3], decoded[4])
	return e, nil
}

func (e *encrypted) parseHeader(raw []byte) (err error) {
	defer recovered(&err)
	if !shallow(raw, maxDepth) {
		return ErrMalformed
	}
	var names map[string]any
	if err := strictjson.Unmarshal(raw, &names); err != nil || names == nil {
		return ErrMalformed
	}
	// Compressed plaintext could be a thousand times as long (RFC 8725, section 3.6). No
	// critical extension is supported.
	for _, refused := range [...]string{"zip", "crit", "b64"} {
		if _, ok := names[refused]; ok {
			return ErrMalformed
		}
	}
	var members struct {
		Algorithm   Algorithm    `json:"alg"`
		Encryption  Encryption   `json:"enc"`
		KeyID       string       `json:"kid"`
		ContentType string       `json:"cty"`
		Ephemeral   ephemeralKey `json:"epk"`
		PartyU      string       `json:"apu"`
		PartyV      string       `json:"apv"`
		IV          string       `json:"iv"`
		Tag         string       `json:"tag"`
	}
	if err := strictjson.Unmarshal(raw, &members); err != nil || len(members.KeyID) > 512 || len(members.ContentType) > 128 {
		return ErrMalformed
	}
	e.header = EncryptedHeader{members.Algorithm, members.Encryption, members.KeyID, members.ContentType}
	known := slices.Contains(PublicKeyEncryptionAlgorithms(), members.Algorithm) || slices.Contains(SecretEncryptionAlgorithms(), members.Algorithm)
	if !known || members.Encryption.keyBytes() == 0 {
		return ErrAlgorithm
	}
	e.ephemeral = members.Ephemeral
	for _, text := range [...]struct {
		from string
		to   *[]byte
	}{{members.PartyU, &e.apu}, {members.PartyV, &e.apv}, {members.IV, &e.keyIV}, {members.Tag, &e.keyTag}} {
		if len(text.from) > 512 {
			return ErrMalformed
		}
		if *text.to, err = decodeBase64(text.from); err != nil {
			return err
		}
	}
	return nil
}

// contentKey decrypts the content key or derives it by key agreement.
func (d *Decrypter) contentKey(e *encrypted) ([]byte, error) {
	if d.rsa != nil {
		return rsa.DecryptOAEP(e.header.Algorithm.oaepHash(), nil, d.rsa, e.key, nil)
	}
	public, err := e.ephemeral.on(d.agree.Curve())
	if err != nil {
		return nil, err
	}
	agreed, err := agreedKey(e.header.Algorithm, e.header.Encryption, d.agree, public, e.apu, e.apv)
	if err != nil || e.header.Algorithm != ECDHES {
		if err != nil {
			return nil, err
		}
		return e.unwrap(agreed)
	}
	if len(e.key) > 0 {
		return nil, ErrMalformed
	}
	return agreed, nil
}

func (e *encrypted) unwrap(key []byte) ([]byte, error) {
	if e.header.Algorithm.wrapsByGCM() {
		gcm, err := newGCM(key)
		if err != nil {
			return nil, err
		}
		if len(e.keyIV) != gcm.NonceSize() || len(e.keyTag) != gcm.Overhead() {
			return nil, ErrMalformed
		}
		return gcm.Open(nil, e.keyIV, slices.Concat(e.key, e.keyTag), nil)
	}
	if len(e.key) != e.header.Encryption.keyBytes()+8 {
		return nil, ErrMalformed
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return josecipher.KeyUnwrap(block, e.key)
}

func (e *encrypted) open(key []byte) ([]byte, error) {
	aead, err := e.header.Encryption.cipher(key)
	if err != nil {
		return nil, err
	}
	if len(e.iv) != aead.NonceSize() {
		return nil, ErrMalformed
	}
	return aead.Open(nil, e.iv, e.sealed, []byte(e.protected))
}

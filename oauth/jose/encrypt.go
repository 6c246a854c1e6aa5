package jose

import (
	"crypto/aes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" // required by RSA-OAEP (RFC 7518, section 4.3)
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash"
	"slices"
	"strings"

	josecipher "github.com/go-jose/go-jose/v4/cipher"
)

// encryptedHeader is the protected header of a new JWE.
type encryptedHeader struct {
	Algorithm   Algorithm     `json:"alg"`
	Encryption  Encryption    `json:"enc"`
	KeyID       string        `json:"kid,omitempty"`
	Type        string        `json:"typ,omitempty"`
	ContentType string        `json:"cty,omitempty"`
	Ephemeral   *ephemeralKey `json:"epk,omitempty"`
	IV          string        `json:"iv,omitempty"`
	Tag         string        `json:"tag,omitempty"`
}

// Message is a payload to encrypt. ContentType is "JWT" for a nested JWT (RFC 7519, section
// 5.2).
type Message struct {
	Type, ContentType string
	Payload           []byte
}

// Recipient returns the key of a set to encrypt to with an algorithm: the first key with the
// use "enc", or else the first usable key that has no use.
func (s *KeySet) Recipient(alg Algorithm) (JWK, bool) {
	if s == nil {
		return JWK{}, false
	}
	var found []JWK
	for _, key := range s.Keys {
		if key.encrypts(alg) {
			found = append(found, key)
		}
	}
	if i := slices.IndexFunc(found, func(k JWK) bool { return k.use == useEncryption }); i >= 0 {
		return found[i], true
	}
	if len(found) == 0 {
		return JWK{}, false
	}
	return found[0], true
}

// Encrypt encrypts a message to a public key and returns the compact JWE.
func Encrypt(alg Algorithm, enc Encryption, to JWK, m Message) (string, error) {
	if !to.encrypts(alg) || enc.keyBytes() == 0 {
		return "", fmt.Errorf("encrypt: the key cannot be used with %s, or %s is not supported", alg, enc)
	}
	header := encryptedHeader{Algorithm: alg, Encryption: enc, KeyID: to.kid, Type: m.Type, ContentType: m.ContentType}
	content := randomBytes(enc.keyBytes())
	var encryptedKey []byte
	var err error
	if key, ok := to.key.(*rsa.PublicKey); ok {
		encryptedKey, err = rsa.EncryptOAEP(alg.oaepHash(), rand.Reader, key, content, nil)
	} else {
		content, encryptedKey, err = agree(&header, to, content)
	}
	if err != nil {
		return "", fmt.Errorf("encrypt: %w", err)
	}
	return seal(&header, content, encryptedKey, m.Payload)
}

// EncryptSecret encrypts a message with a key that is shared with the recipient and returns
// the compact JWE; secret returns the key with the given number of bytes.
func EncryptSecret(alg Algorithm, enc Encryption, secret func(bytes int) []byte, m Message) (string, error) {
	if !slices.Contains(SecretEncryptionAlgorithms(), alg) || enc.keyBytes() == 0 {
		return "", fmt.Errorf("encrypt: %s does not use a shared secret, or %s is not supported", alg, enc)
	}
	header := encryptedHeader{Algorithm: alg, Encryption: enc, Type: m.Type, ContentType: m.ContentType}
	if alg == Direct {
		return seal(&header, secret(enc.keyBytes()), nil, m.Payload)
	}
	content := randomBytes(enc.keyBytes())
	encryptedKey, err := wrap(&header, secret(alg.wrapBytes()), content)
	if err != nil {
		return "", fmt.Errorf("encrypt: %w", err)
	}
	return seal(&header, content, encryptedKey, m.Payload)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}

func (a Algorithm) oaepHash() hash.Hash {
	if a == RSAOAEP {
		return sha1.New()
	}
	return sha256.New()
}

// agree generates an ephemeral key and derives the content key, or the key that wraps it.
func agree(header *encryptedHeader, to JWK, content []byte) (key, encryptedKey []byte, err error) {
	public, ok := to.key.(*ecdh.PublicKey)
	if !ok {
		if public, err = to.key.(*ecdsa.PublicKey).ECDH(); err != nil {
			return nil, nil, err
		}
	}
	ephemeral, err := public.Curve().GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	epk := newEphemeralKey(ephemeral.PublicKey())
	header.Ephemeral = &epk
	agreed, err := agreedKey(header.Algorithm, header.Encryption, ephemeral, public, nil, nil)
	if err != nil || header.Algorithm == ECDHES {
		return agreed, nil, err
	}
	encryptedKey, err = wrap(header, agreed, content)
	return content, encryptedKey, err
}

func wrap(header *encryptedHeader, key, content []byte) ([]byte, error) {
	if header.Algorithm.wrapsByGCM() {
		gcm, err := newGCM(key)
		if err != nil {
			return nil, err
		}
		iv := randomBytes(gcm.NonceSize())
		sealed := gcm.Seal(nil, iv, content, nil)
		header.IV = strictBase64.EncodeToString(iv)
		header.Tag = strictBase64.EncodeToString(sealed[len(content):])
		return sealed[:len(content)], nil
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return josecipher.KeyWrap(block, content)
}

func seal(header *encryptedHeader, key, encryptedKey, payload []byte) (string, error) {
	aead, err := header.Encryption.cipher(key)
	if err != nil {
		return "", fmt.Errorf("encrypt: %w", err)
	}
	encoded, err := json.Marshal(header)
	if err != nil {
		return "", fmt.Errorf("encode header: %w", err)
	}
	protected := strictBase64.EncodeToString(encoded)
	iv := randomBytes(aead.NonceSize())
	sealed := aead.Seal(nil, iv, payload, []byte(protected))
	end := len(sealed) - header.Encryption.tagBytes()
	return strings.Join([]string{
		protected, strictBase64.EncodeToString(encryptedKey), strictBase64.EncodeToString(iv),
		strictBase64.EncodeToString(sealed[:end]), strictBase64.EncodeToString(sealed[end:]),
	}, "."), nil
}

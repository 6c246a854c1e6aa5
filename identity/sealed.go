package identity

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
)

// Secrets that must be read again are sealed with AES-256-GCM under a key that is derived from
// Config.Secret, which is not in the database (docs/decisions/0005). Their purpose and owner are
// authenticated with them, so that a value that is copied to another record cannot be opened there.

// newSealer derives the keys for secrets of authenticators.
func newSealer(secret []byte) (aead cipher.AEAD, macKey []byte, err error) {
	key, err := hkdf.Key(sha256.New, secret, nil, "valetkey authenticators", 32)
	if err != nil {
		return nil, nil, fmt.Errorf("derive the key of authenticators: %w", err)
	}
	if macKey, err = hkdf.Key(sha256.New, secret, nil, "valetkey recovery codes", 32); err != nil {
		return nil, nil, fmt.Errorf("derive the key of recovery codes: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, nil, fmt.Errorf("key of authenticators: %w", err)
	}
	// Nonces are random. Few values are sealed with one key, far fewer than the 2^32 that NIST
	// SP 800-38D, section 8.3 allows.
	if aead, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		return nil, nil, fmt.Errorf("key of authenticators: %w", err)
	}
	return aead, macKey, nil
}

func (a *Accounts) seal(plain []byte, purpose, owner string) []byte {
	return a.sealer.Seal(nil, nil, plain, []byte(purpose+"\x00"+owner))
}

var errSealed = errors.New("it was sealed with another master key, was changed, or was copied from another user")

func (a *Accounts) unseal(sealed []byte, purpose, owner string) ([]byte, error) {
	plain, err := a.sealer.Open(nil, nil, sealed, []byte(purpose+"\x00"+owner))
	if err != nil {
		return nil, errSealed
	}
	return plain, nil
}

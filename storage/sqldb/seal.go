package sqldb

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
)

// sealer encrypts secrets that must be read again, with AES-256-GCM. The column and row of a value
// are authenticated with it, so that a value that is moved to another row cannot be decrypted
// there.
type sealer struct{ aead cipher.AEAD }

// sealVersion is the first byte of every sealed value.
const sealVersion = 1

func newSealer(masterKey []byte) (sealer, error) {
	if len(masterKey) != 32 {
		return sealer{}, fmt.Errorf("the master key must have 32 bytes, got %d", len(masterKey))
	}
	block, err := aes.NewCipher(masterKey)
	if err != nil {
		return sealer{}, fmt.Errorf("master key: %w", err)
	}
	// Nonces are random. Few values are sealed with one key, far fewer than the 2^32
	// that NIST SP 800-38D, section 8.3 allows.
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return sealer{}, fmt.Errorf("master key: %w", err)
	}
	return sealer{aead}, nil
}

// seal encrypts plain for one place: a column and the key of its row.
func (s sealer) seal(plain []byte, column, row string) []byte {
	return s.aead.Seal([]byte{sealVersion}, nil, plain, place(column, row))
}

var errSeal = errors.New("a sealed value cannot be decrypted: it was sealed with another master key, was changed, or was copied from another row")

// open decrypts a value that was sealed for the same place.
func (s sealer) open(sealed []byte, column, row string) ([]byte, error) {
	if len(sealed) == 0 || sealed[0] != sealVersion {
		return nil, errSeal
	}
	plain, err := s.aead.Open(nil, nil, sealed[1:], place(column, row))
	if err != nil {
		return nil, errSeal
	}
	return plain, nil
}

func place(column, row string) []byte { return []byte(column + "\x00" + row) }

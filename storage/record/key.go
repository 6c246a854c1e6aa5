package record

import (
	"crypto"
	"slices"
	"time"

	"github.com/valetkey/valetkey/oauth/jose"
)

// Key is a private key and its validity times. A signing key is published from the moment it
// is stored until PublishedUntil, and signs from SignsFrom until another key of its algorithm
// does. A key with an encryption algorithm decrypts until PublishedUntil, and is published
// until that is set.
type Key struct {
	ID             string // kid
	Algorithm      jose.Algorithm
	Private        crypto.Signer `json:"-"`
	CreatedAt      time.Time
	SignsFrom      time.Time
	PublishedUntil time.Time // zero: no end is set yet
}

// Decrypts reports whether clients encrypt to the key.
func (k *Key) Decrypts() bool {
	return slices.Contains(jose.PublicKeyEncryptionAlgorithms(), k.Algorithm)
}

package oauth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
)

// CodeChallengeMethodS256 is the only supported method: "plain" does not protect against an
// attacker who can read the authorization request (RFC 9700, section 2.1.1).
const CodeChallengeMethodS256 = "S256"

// NewCodeVerifier returns a random code verifier with 256 bits in 43 characters (RFC 7636,
// section 4.1).
func NewCodeVerifier() string {
	var b [32]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// S256Challenge returns BASE64URL(SHA256(ASCII(verifier))) (RFC 7636, section 4.2).
func S256Challenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// VerifyS256 reports, in constant time, whether challenge is the S256 challenge of verifier.
func VerifyS256(challenge, verifier string) bool {
	return subtle.ConstantTimeCompare([]byte(S256Challenge(verifier)), []byte(challenge)) == 1
}

// ValidCodeVerifier reports whether s has 43 to 128 unreserved characters (RFC 7636,
// section 4.1).
func ValidCodeVerifier(s string) bool {
	if len(s) < 43 || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		if !unreserved(s[i]) {
			return false
		}
	}
	return true
}

// ValidS256Challenge reports whether s is base64url of 32 bytes, without padding and
// without unused bits.
func ValidS256Challenge(s string) bool {
	if len(s) != 43 {
		return false
	}
	_, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil
}

func unreserved(c byte) bool {
	return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}

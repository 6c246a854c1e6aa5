package authserver

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"time"

	"github.com/valetkey/valetkey/storage"
)

// The secrets that the engine hands out are 256 bits with a prefix that says what they
// are and a checksum, so that scanners recognise a leaked one without asking anybody.
const (
	prefixCode         = "vk_ac_"
	prefixRefreshToken = "vk_rt_"
	prefixAccessToken  = "vk_at_"
)

// newSecret begins with the time, so that what is stored together lies together: a
// database writes a page for each place that changes. The time is no secret, and the 256
// random bits after it are.
func newSecret(prefix string, now time.Time) string {
	var b [32]byte
	rand.Read(b[:])
	return formatSecret(prefix, now, b[:])
}

func formatSecret(prefix string, now time.Time, random []byte) string {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 36), uint32(now.Unix()))
	b = append(b, random...)
	body := prefix + base64.RawURLEncoding.EncodeToString(b)
	return body + checksum(body)
}

// locatorBytes is how much of a secret's time goes into its key, as characters of its text.
const locatorBytes = 5

// secretKey returns the key under which a secret of ours is stored: its hash, of which the
// first bytes make room for the time.
func secretKey(kind storage.Kind, prefix, secret string) storage.Key {
	key := kind.Hash(secret)
	copy(key.ID[:locatorBytes], secret[len(prefix):])
	return key
}

// newFamily returns a name for an authorization, with 80 random bits after the time.
func newFamily(now time.Time) string {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 16), uint32(now.Unix()))
	b = b[:14]
	rand.Read(b[4:])
	return base64.RawURLEncoding.EncodeToString(b)
}

// checksum is the CRC-32 of what stands before it, in six characters.
func checksum(body string) string {
	var sum [4]byte
	binary.BigEndian.PutUint32(sum[:], crc32.ChecksumIEEE([]byte(body)))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// isSecret reports whether s can be one of ours, before a database is asked.
func isSecret(prefix, s string) bool {
	const length = 48 + 6
	if len(s) != len(prefix)+length || !strings.HasPrefix(s, prefix) {
		return false
	}
	return checksum(s[:len(s)-6]) == s[len(s)-6:]
}

// successor derives the refresh token that follows one that is spent at a given time, so
// that the answer to a rotation can be given again without having been stored.
func (s *Server) successor(refreshToken string, spent time.Time) string {
	mac := hmac.New(sha256.New, s.refreshKey)
	mac.Write([]byte(refreshToken))
	return formatSecret(prefixRefreshToken, spent, mac.Sum(nil))
}

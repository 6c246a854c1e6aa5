package authserver

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"strings"

	"github.com/valetkey/valetkey/storage"
)

// The secrets that the engine hands out are 256 bits with a prefix that says what they
// are and a checksum, so that scanners recognise a leaked one without asking anybody.
const (
	prefixCode         = "vk_ac_"
	prefixRefreshToken = "vk_rt_"
	prefixAccessToken  = "vk_at_"
)

// The kinds under which they are stored, as hashes.
const (
	kindCode         storage.Kind = "code"
	kindRefreshToken storage.Kind = "refresh"
	kindAccessToken  storage.Kind = "access"
)

func newSecret(prefix string) string {
	var b [32]byte
	rand.Read(b[:])
	return formatSecret(prefix, b[:])
}

func formatSecret(prefix string, random []byte) string {
	body := prefix + base64.RawURLEncoding.EncodeToString(random)
	return body + checksum(body)
}

// checksum is the CRC-32 of what stands before it, in six characters.
func checksum(body string) string {
	var sum [4]byte
	binary.BigEndian.PutUint32(sum[:], crc32.ChecksumIEEE([]byte(body)))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// isSecret reports whether s can be one of ours, before a database is asked.
func isSecret(prefix, s string) bool {
	const length = 43 + 6
	if len(s) != len(prefix)+length || !strings.HasPrefix(s, prefix) {
		return false
	}
	return checksum(s[:len(s)-6]) == s[len(s)-6:]
}

// successor derives the refresh token that follows one, so that the answer to a rotation
// can be given again without having been stored.
func (s *Server) successor(refreshToken string) string {
	mac := hmac.New(sha256.New, s.refreshKey)
	mac.Write([]byte(refreshToken))
	return formatSecret(prefixRefreshToken, mac.Sum(nil))
}

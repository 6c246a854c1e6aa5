package identity

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/text/unicode/norm"
)

// MaxPasswordBytes is the maximum length of a password. A longer one is refused before it is
// hashed, so that it costs nothing.
const MaxPasswordBytes = 1024

// ErrPasswordTooLong means that a password has more than MaxPasswordBytes.
var ErrPasswordTooLong = errors.New("identity: the password is longer than 1024 bytes")

// The parameters of new hashes: argon2id (RFC 9106) with the smallest of OWASP's equivalent
// parameter sets, which ASVS 5.0, appendix C, has too.
const (
	argonMemory  = 19 << 10 // KiB
	argonTime    = 2
	argonThreads = 1
	argonSalt    = 16 // bytes
	argonKey     = 32 // bytes
)

// Limits for imported hashes, so that verifying one cannot stall the server.
const (
	maxArgonMemory = 256 << 10 // KiB
	maxArgonTime   = 32
	maxBcryptCost  = 15
)

// HashPassword returns the argon2id hash of a password in PHC string format. It takes about 20
// ms and 19 MiB. A server must limit how many run at once, as Accounts does.
func HashPassword(password string) (string, error) {
	if len(password) > MaxPasswordBytes {
		return "", ErrPasswordTooLong
	}
	h := argonHash{memory: argonMemory, time: argonTime, threads: argonThreads, salt: make([]byte, argonSalt)}
	rand.Read(h.salt)
	h.key = h.derive(password, argonKey)
	return h.String(), nil
}

// CheckPasswordHash reports why a hash is not supported. Valid argon2id and bcrypt hashes are
// supported.
func CheckPasswordHash(hash string) error {
	if strings.HasPrefix(hash, "$argon2id$") {
		_, err := parseArgonHash(hash)
		return err
	}
	if strings.HasPrefix(hash, "$2") {
		cost, err := bcrypt.Cost([]byte(hash))
		if err != nil {
			return errors.New("the bcrypt hash is malformed")
		}
		if cost > maxBcryptCost {
			return fmt.Errorf("the cost of the bcrypt hash is %d, the maximum is %d", cost, maxBcryptCost)
		}
		return nil
	}
	return errors.New("the hash is neither argon2id ($argon2id$…) nor bcrypt ($2b$…)")
}

// VerifyPassword compares a password with a hash in constant time. An invalid hash matches no
// password.
func VerifyPassword(hash, password string) bool {
	if CheckPasswordHash(hash) != nil {
		return false
	}
	if h, err := parseArgonHash(hash); err == nil {
		return subtle.ConstantTimeCompare(h.key, h.derive(password, len(h.key))) == 1
	}
	// Bcrypt uses 72 bytes, here as in the system that created the hash.
	b := []byte(normalizePassword(password))
	return bcrypt.CompareHashAndPassword([]byte(hash), b[:min(len(b), bcryptMaxBytes)]) == nil
}

// needsRehash reports whether a hash should be replaced at the next sign-in.
func needsRehash(hash string) bool {
	h, err := parseArgonHash(hash)
	return err != nil || h.memory < argonMemory || h.time < argonTime || len(h.salt) < argonSalt || len(h.key) < argonKey
}

// normalizePassword makes a password the same on different systems, with the mapping and
// normalization rules of OpaqueString (RFC 8265, section 4.2): every space becomes U+0020, then
// NFC is applied. The profile's list of allowed characters is not enforced, because it refuses
// characters that are newer than the list.
func normalizePassword(password string) string {
	return norm.NFC.String(strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Zs, r) {
			return ' '
		}
		return r
	}, password))
}

// argonHash is $argon2id$v=19$m=19456,t=2,p=1$salt$key.
type argonHash struct {
	memory, time uint32
	threads      uint8
	salt, key    []byte
}

func (h *argonHash) derive(password string, length int) []byte {
	return argon2.IDKey([]byte(normalizePassword(password)), h.salt, h.time, h.memory, h.threads, uint32(length))
}

func (h *argonHash) String() string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.time, h.threads,
		b64.EncodeToString(h.salt), b64.EncodeToString(h.key))
}

func parseArgonHash(s string) (*argonHash, error) {
	fields := strings.Split(s, "$")
	if len(fields) != 6 || fields[0] != "" || fields[1] != "argon2id" {
		return nil, errors.New("the argon2id hash is malformed: want $argon2id$v=19$m=…,t=…,p=…$salt$key")
	}
	if fields[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return nil, errors.New("the version of the argon2id hash must be 19")
	}
	var h argonHash
	if _, err := fmt.Sscanf(fields[3], "m=%d,t=%d,p=%d", &h.memory, &h.time, &h.threads); err != nil ||
		fields[3] != fmt.Sprintf("m=%d,t=%d,p=%d", h.memory, h.time, h.threads) {
		return nil, errors.New("the parameters of the argon2id hash are malformed")
	}
	if h.memory < 8 || h.memory > maxArgonMemory || h.time < 1 || h.time > maxArgonTime || h.threads < 1 {
		return nil, errors.New("the parameters of the argon2id hash are out of range")
	}
	var err1, err2 error
	h.salt, err1 = base64.RawStdEncoding.Strict().DecodeString(fields[4])
	h.key, err2 = base64.RawStdEncoding.Strict().DecodeString(fields[5])
	// encoding/base64 ignores line breaks.
	if err1 != nil || err2 != nil || strings.ContainsAny(s, "\r\n") || len(h.salt) < 8 || len(h.salt) > 64 || len(h.key) < 16 || len(h.key) > 128 {
		return nil, errors.New("the salt or key of the argon2id hash is malformed")
	}
	return &h, nil
}

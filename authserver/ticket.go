package authserver

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
)

// authorization is what a user allowed a client in one request: the data of a code and of the
// tokens that are issued for it.
type authorization struct {
	ClientID string `json:"c,omitempty"`
	Subject  string `json:"s,omitempty"`
	// Other is the sub of tokens whose subject is neither a user of this server nor the client.
	Other     string      `json:"h,omitempty"`
	Grant     string      `json:"g,omitempty"`
	Family    string      `json:"f,omitempty"`
	Scope     oauth.Scope `json:"o,omitempty"`
	Resources []string    `json:"r,omitempty"`
	// Audience are the APIs that the user consented to, if Resources does not have them. It is
	// nil if there was no consent page.
	Audience []string `json:"u,omitzero"`
	// Details are the authorization details that the user consented to (RFC 9396).
	Details []json.RawMessage `json:"d,omitempty"`
	// Session is read by record.SessionOf too.
	Session  string               `json:"i,omitempty"`
	AuthTime int64                `json:"t,omitempty"` // Unix seconds
	ACR      string               `json:"a,omitempty"`
	AMR      []string             `json:"m,omitempty"`
	Claims   *oauth.ClaimsRequest `json:"q,omitempty"`
	// ClaimsLocales are the languages of claims, best first (OpenID Connect Core, section 5.2).
	ClaimsLocales []string `json:"l,omitempty"`
	// Extra are claims of its access tokens that RFC 9068, section 2.2 does not define.
	Extra   oauth.Claims `json:"x,omitempty"`
	Started int64        `json:"b,omitempty"` // when the family began, Unix seconds
	// Issued is when this was issued, in Unix milliseconds. It is no longer valid if all tokens
	// of its user or client were revoked after that.
	Issued int64 `json:"n,omitempty"`
	// Confirmation are the keys that an opaque access token, or the refresh token of a public
	// client, is bound to.
	Confirmation *oauth.Confirmation `json:"y,omitempty"`

	Code   *codeBinding `json:"k,omitempty"` // on a code only
	Opaque *opaqueToken `json:"p,omitempty"` // on an opaque access token only
}

// codeBinding is what a code is bound to in addition to its client.
type codeBinding struct {
	RedirectURI string `json:"r,omitempty"`
	// RedirectURISent: the authorization request had a redirect_uri, so the token request must
	// have it too.
	RedirectURISent bool   `json:"s,omitempty"`
	CodeChallenge   string `json:"c,omitempty"`
	JWKThumbprint   string `json:"j,omitempty"` // dpop_jkt
	Nonce           string `json:"n,omitempty"`
	// Expires is when the code expires, in Unix milliseconds. Its ticket is kept longer, so that
	// a replay is detected.
	Expires int64 `json:"e,omitempty"`
}

// opaqueToken has the data of an opaque access token for introspection.
type opaqueToken struct {
	Audience []string `json:"a"`
	IssuedAt int64    `json:"i"`
}

// ticket returns a ticket with the authorization as its data.
func (a *authorization) ticket(key storage.Key, expires time.Time) (storage.Ticket, error) {
	data, err := json.Marshal(a)
	if err != nil {
		return storage.Ticket{}, fmt.Errorf("encode authorization: %w", err)
	}
	return storage.Ticket{Key: key, Grant: a.Grant, Family: a.Family, Data: data, Expires: expires}, nil
}

func readAuthorization(t storage.Ticket) (authorization, error) {
	if a, ok := decodePlain(string(t.Data)); ok {
		return a, nil
	}
	var a authorization
	if err := json.Unmarshal(t.Data, &a); err != nil {
		return a, fmt.Errorf("read authorization of a %s: %w", t.Kind, err)
	}
	return a, nil
}

// The secrets that the engine issues have 256 random bits, a prefix that identifies their type,
// and a checksum. Secret scanners can so recognize a leaked one offline.
const (
	prefixCode         = "vk_ac_"
	prefixRefreshToken = "vk_rt_"
	prefixAccessToken  = "vk_at_"
)

// newSecret returns a new secret. It starts with the time, so that keys of tickets that are stored
// at the same time are close together: a database then writes fewer pages. The time need not be
// secret; 256 random bits follow.
func newSecret(prefix string, now time.Time) string {
	var b [32]byte
	rand.Read(b[:])
	return formatSecret(prefix, now, b[:])
}

func formatSecret(prefix string, now time.Time, random []byte) string {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 36), uint32(now.Unix()))
	b = append(b, random...)
	return withChecksum(prefix, b)
}

// withChecksum returns the prefix, b in base64url, and the checksum of both.
func withChecksum(prefix string, b []byte) string {
	text := make([]byte, 0, len(prefix)+base64.RawURLEncoding.EncodedLen(len(b))+checksumLength)
	text = base64.RawURLEncoding.AppendEncode(append(text, prefix...), b)
	return string(appendChecksum(text))
}

// locatorBytes is how many characters of a secret's time are used in its key.
const locatorBytes = 5

// secretKey returns the key of a secret's ticket: the hash of the secret, with the time in the
// first bytes.
func secretKey(kind storage.Kind, prefix, secret string) storage.Key {
	key := kind.Hash(secret)
	copy(key.ID[:locatorBytes], secret[len(prefix):])
	return key
}

// newFamily returns a new family for an authorization: the time and 80 random bits.
func newFamily(now time.Time) string {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 16), uint32(now.Unix()))
	b = b[:14]
	rand.Read(b[4:])
	return base64.RawURLEncoding.EncodeToString(b)
}

// appendChecksum appends the CRC-32 of body in six characters.
func appendChecksum(body []byte) []byte {
	var sum [4]byte
	binary.BigEndian.PutUint32(sum[:], crc32.ChecksumIEEE(body))
	return base64.RawURLEncoding.AppendEncode(body, sum[:])
}

// hasChecksum reports whether s ends with the checksum of the rest.
func hasChecksum(s string) bool {
	text := append(make([]byte, 0, len(s)), s[:len(s)-checksumLength]...)
	return string(appendChecksum(text)) == s
}

// The lengths of a secret after its prefix, and of its checksum.
const (
	secretLength   = 48 + checksumLength
	checksumLength = 6
)

// isSecret reports whether s has the format and the checksum of a secret, without a database
// query.
func isSecret(prefix, s string) bool {
	if len(s) != len(prefix)+secretLength || !strings.HasPrefix(s, prefix) {
		return false
	}
	return hasChecksum(s)
}

// successor derives the next refresh token from one that is spent at a given time. A retried
// rotation so gets the same token again, although it is not stored.
func (s *Server) successor(refreshToken string, spent time.Time) string {
	mac := hmac.New(sha256.New, s.refreshKey)
	mac.Write([]byte(refreshToken))
	return formatSecret(prefixRefreshToken, spent, mac.Sum(nil))
}

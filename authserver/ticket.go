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

// authorization is what a person allowed a client at one moment: the data of a code and
// of the tokens that descend from it.
type authorization struct {
	ClientID string `json:"c"`
	Subject  string `json:"s,omitempty"`
	// Other is the sub of tokens whose subject is neither a person here nor the client.
	Other     string      `json:"h,omitempty"`
	Grant     string      `json:"g,omitempty"`
	Family    string      `json:"f,omitempty"`
	Scope     oauth.Scope `json:"o,omitempty"`
	Resources []string    `json:"r,omitempty"`
	// Audience are the APIs that the user was asked about, where Resources does not say which
	// of them the tokens are for; nil if nobody was asked.
	Audience []string `json:"u,omitzero"`
	// Session is read by record.SessionOf too.
	Session  string               `json:"i,omitempty"`
	AuthTime int64                `json:"t,omitempty"` // Unix seconds
	ACR      string               `json:"a,omitempty"`
	AMR      []string             `json:"m,omitempty"`
	Claims   *oauth.ClaimsRequest `json:"q,omitempty"`
	// ClaimsLocales are the languages of claims, best first (OpenID Connect Core, section 5.2).
	ClaimsLocales []string `json:"l,omitempty"`
	// Extra are claims that its access tokens carry beside those of RFC 9068, section 2.2.
	Extra   oauth.Claims `json:"x,omitempty"`
	Started int64        `json:"b,omitempty"` // when the family began, Unix seconds
	// Issued is when the user, or the client for itself, was given this, in Unix milliseconds.
	// If everything of theirs ended since, so did this.
	Issued int64        `json:"n,omitempty"`
	Code   *codeBinding `json:"k,omitempty"` // on a code only
	Opaque *opaqueToken `json:"p,omitempty"` // on an opaque access token only
}

// codeBinding is what a code is bound to beside its client.
type codeBinding struct {
	RedirectURI string `json:"r"`
	// RedirectURISent says that the request named it, so that the redemption must too.
	RedirectURISent bool   `json:"s,omitempty"`
	CodeChallenge   string `json:"c,omitempty"`
	Nonce           string `json:"n,omitempty"`
	// Expires is when the code can no longer be redeemed, in Unix milliseconds. The
	// ticket lives longer, so that a replay is still recognised.
	Expires int64 `json:"e"`
}

// opaqueToken is what introspection says of an opaque access token.
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
	var a authorization
	if err := json.Unmarshal(t.Data, &a); err != nil {
		return a, fmt.Errorf("read authorization of a %s: %w", t.Kind, err)
	}
	return a, nil
}

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

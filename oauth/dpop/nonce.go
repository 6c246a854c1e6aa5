package dpop

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// A nonce is valid in the period in which it was issued and in the two periods after that: for two
// to three minutes. The next period is accepted because the clock of another node may be ahead.
const (
	noncePeriod  = time.Minute
	noncesBefore = 2
	noncesAfter  = 1
)

const nonceBytes = 4 + 16 // the period and its authentication code

// Nonces issues and verifies the nonces of a server (RFC 9449, sections 8 and 9). A nonce is an
// authenticated time. Nothing is stored, and all nodes with the same key accept the nonces of each
// other. It is safe for concurrent use.
type Nonces struct {
	key     []byte
	current atomic.Pointer[nonce]
}

type nonce struct {
	period uint32
	text   string
}

// NewNonces returns nonces with a key of at least 32 bytes. Servers that must not accept each
// other's nonces need different keys.
func NewNonces(key []byte) (*Nonces, error) {
	if len(key) < sha256.Size {
		return nil, errors.New("the key of DPoP nonces has fewer than 32 bytes")
	}
	return &Nonces{key: key}, nil
}

// Current returns the nonce for responses at a time.
func (n *Nonces) Current(now time.Time) string {
	period := periodOf(now)
	if current := n.current.Load(); current != nil && current.period == period {
		return current.text
	}
	text := base64.RawURLEncoding.EncodeToString(n.encode(period))
	n.current.Store(&nonce{period, text})
	return text
}

// Valid reports whether a nonce was issued by this server and has not expired.
func (n *Nonces) Valid(text string, now time.Time) bool {
	if current := n.current.Load(); current != nil && current.text == text && current.period == periodOf(now) {
		return true
	}
	if len(text) != base64.RawURLEncoding.EncodedLen(nonceBytes) {
		return false
	}
	sent, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(sent) != nonceBytes {
		return false
	}
	period := binary.BigEndian.Uint32(sent)
	if !hmac.Equal(sent, n.encode(period)) {
		return false
	}
	age := int64(periodOf(now)) - int64(period)
	return age <= noncesBefore && age >= -noncesAfter
}

func (n *Nonces) encode(period uint32) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 4+sha256.Size), period)
	mac := hmac.New(sha256.New, n.key)
	mac.Write(b)
	return mac.Sum(b)[:nonceBytes]
}

func periodOf(now time.Time) uint32 { return uint32(now.Unix() / int64(noncePeriod/time.Second)) }

// Format keeps the key out of logs and messages, with any verb.
func (n *Nonces) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[DPoP nonces]") }

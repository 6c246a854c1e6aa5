// Package probe lets the operator's own programs ask a server how a request arrived: which host,
// path, address and headers it has after all proxies, and how the process is doing. A question is
// authenticated with a key that is derived from the master key, so nobody else gets an answer.
//
//	probe.go     questions and their authentication
//	answer.go    answers
//	files_*.go   how many files the process has and may have open
package probe

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"time"
)

// Header is the request header that contains a question. It has the same meaning on every path and
// for every host, because a proxy may have changed both.
const Header = "Valetkey-Probe"

// Purpose is the purpose for which database.Derive derives the Key from one of database.Database.MasterSecrets.
const Purpose = "valetkey probe"

// MaxAge is how old a question may be. An intermediary that sees one can repeat it until then; it gets
// an answer about the repetition, and nothing changes.
const MaxAge = time.Minute

// MaxHeaderBytes is the most that Question.HeaderBytes may be.
const MaxHeaderBytes = 64 << 10

// Question is what a program asks.
type Question struct {
	// Time is the time of the question, by the clock of the server.
	Time time.Time
	// HeaderBytes is the length of a response header that the server adds.
	HeaderBytes uint32
	// Cookies asks for a cookie with the attributes of the server's own, and Token for a JWT that is
	// signed as others are.
	Cookies, Token bool
}

// Key authenticates questions.
type Key []byte

// String keeps the key out of logs.
func (Key) String() string { return "[probe key]" }

// errInvalid is the same for every reason: who has no key learns nothing.
var errInvalid = errors.New("the question is not authenticated")

const (
	nonceBytes    = 16
	questionBytes = 8 + nonceBytes + 4 + 1
)

var encoding = base64.RawURLEncoding

// Seal returns the value of Header for a question.
func (k Key) Seal(q Question) string {
	message := binary.BigEndian.AppendUint64(nil, uint64(q.Time.Unix()))
	nonce := make([]byte, nonceBytes)
	rand.Read(nonce)
	message = append(message, nonce...)
	message = binary.BigEndian.AppendUint32(message, q.HeaderBytes)
	var flags byte
	if q.Cookies {
		flags |= 1
	}
	if q.Token {
		flags |= 2
	}
	message = append(message, flags)
	return encoding.EncodeToString(message) + "." + encoding.EncodeToString(k.tag(message))
}

func (k Key) tag(message []byte) []byte {
	h := hmac.New(sha256.New, k)
	h.Write(message)
	return h.Sum(nil)
}

// Open returns the question in a value of Header if it was made with this key and is recent.
func (k Key) Open(value string, now time.Time) (Question, error) {
	text, tagText, _ := strings.Cut(value, ".")
	message, err := encoding.DecodeString(text)
	if err != nil || len(message) != questionBytes {
		return Question{}, errInvalid
	}
	tag, err := encoding.DecodeString(tagText)
	if err != nil || len(k) == 0 || !hmac.Equal(tag, k.tag(message)) {
		return Question{}, errInvalid
	}
	q := Question{
		Time:        time.Unix(int64(binary.BigEndian.Uint64(message)), 0),
		HeaderBytes: binary.BigEndian.Uint32(message[8+nonceBytes:]),
		Cookies:     message[questionBytes-1]&1 != 0,
		Token:       message[questionBytes-1]&2 != 0,
	}
	if age := now.Sub(q.Time); age > MaxAge || age < -MaxAge || q.HeaderBytes > MaxHeaderBytes {
		return Question{}, errInvalid
	}
	return q, nil
}

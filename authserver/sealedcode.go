package authserver

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/storage"
)

// A sealed code contains its authorization, encrypted and authenticated. Nothing is stored when it
// is issued; the redemption stores that it was used (docs/decisions/0014). It is encoded as
//
//	prefix base64url(time nonce ciphertext tag) checksum
//
// with the time of issue in four bytes, as in every secret.

// maxSealedCode is the maximum length of a sealed code. Some clients cut off long ones; a longer
// code is stored instead.
const maxSealedCode = 512

// sealedCodeVersion is the first byte of the plaintext.
const sealedCodeVersion = 1

var (
	errCodeSyntax  = errors.New("malformed")
	errCodeForeign = errors.New("it was not issued by this server: it was changed, or issued under another issuer or master key")
	errCodeVersion = errors.New("it was issued by another version of this server")
)

// newSealedCode returns a sealed code and its key in the store, for the cache. ok is false if the
// code must be stored instead: one that is issued with tokens, which belong to its ticket; one
// without a session, because its redemption could not detect that everything of the user was revoked
// since; and one that would be too long.
func (c *call) newSealedCode(a authorization, request *authorizationRequest) (code string, key storage.Ticket, ok bool, err error) {
	if a.Session == "" || !request.responseType.Code || request.responseType.FrontChannel() {
		return "", storage.Ticket{}, false, nil
	}
	a.Code = c.newCodeBinding(request)
	code, err = c.s.sealCode(a)
	if err != nil || len(code) > maxSealedCode {
		return "", storage.Ticket{}, false, err
	}
	return code, storage.Ticket{Key: secretKey(ticketkind.Code, prefixCode, code), Expires: time.UnixMilli(a.Code.Expires)}, true, nil
}

// codeCipher encrypts the codes of a period of 18 hours. One key therefore encrypts far fewer than 2^32
// codes, the limit for random nonces (NIST SP 800-38D, section 8.3).
type codeCipher struct {
	period uint32
	aead   cipher.AEAD
}

// codeCipher returns the cipher for codes that were issued at a time, in Unix seconds.
func (s *Server) codeCipher(unix uint32) (*codeCipher, error) {
	period := unix >> 16
	if latest := s.latestCodeCipher.Load(); latest != nil && latest.period == period {
		return latest, nil
	}
	mac := hmac.New(sha256.New, s.codeKey)
	mac.Write(binary.BigEndian.AppendUint32(nil, period))
	block, err := aes.NewCipher(mac.Sum(nil))
	if err != nil {
		return nil, fmt.Errorf("code cipher: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("code cipher: %w", err)
	}
	return &codeCipher{period, aead}, nil
}

// codeContext is authenticated with a code: its issuer, and its time in plain form.
func (s *Server) codeContext(unix []byte) []byte {
	context := append(make([]byte, 0, len(s.config.Issuer)+len(unix)), s.config.Issuer...)
	return append(context, unix...)
}

// sealCode returns a sealed code for an authorization.
func (s *Server) sealCode(a authorization) (string, error) {
	plain, err := encodeSealed(a)
	if err != nil {
		return "", err
	}
	unix := uint32(a.Issued / 1000)
	by, err := s.codeCipher(unix)
	if err != nil {
		return "", err
	}
	s.latestCodeCipher.Store(by)
	sealed := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(plain)+by.aead.Overhead()), unix)
	sealed = by.aead.Seal(sealed, nil, plain, s.codeContext(sealed))
	return withChecksum(prefixCode, sealed), nil
}

// isSealedCode reports whether a code has the length of a sealed one. All stored codes have the
// same length, and sealed ones are longer.
func isSealedCode(code string) bool { return len(code) > len(prefixCode)+secretLength }

// openCode returns the authorization of a sealed code, also after the code has expired. The error
// is for the operator; clients do not learn the reason.
func (s *Server) openCode(code string) (authorization, error) {
	if len(code) > maxSealedCode || !strings.HasPrefix(code, prefixCode) || !hasChecksum(code) {
		return authorization{}, errCodeSyntax
	}
	body := code[len(prefixCode) : len(code)-checksumLength]
	// The key in the store is a hash of the code, so each code must have only one spelling.
	sealed, ok := decodeExactly(nil, body)
	if !ok || len(sealed) < 4 {
		return authorization{}, errCodeSyntax
	}
	by, err := s.codeCipher(binary.BigEndian.Uint32(sealed))
	if err != nil {
		return authorization{}, err
	}
	plain, err := by.aead.Open(nil, nil, sealed[4:], s.codeContext(sealed[:4]))
	if err != nil {
		return authorization{}, errCodeForeign
	}
	return decodeSealed(plain)
}

// The plaintext has the members that almost every code has in a compact form, and all others as
// JSON, if there are any. A member that is added to authorization needs no change here.

// sealedTexts, sealedLists and sealedTimes return the members in compact form.
func sealedTexts(a *authorization) [10]*string {
	return [...]*string{
		&a.ClientID, &a.Subject, &a.Grant, &a.Family, &a.Session, &a.ACR,
		&a.Code.RedirectURI, &a.Code.CodeChallenge, &a.Code.JWKThumbprint, &a.Code.Nonce,
	}
}

func sealedLists(a *authorization) [4]*[]string {
	return [...]*[]string{(*[]string)(&a.Scope), &a.Resources, &a.Audience, &a.AMR}
}

func sealedTimes(a *authorization) [4]*int64 {
	return [...]*int64{&a.Issued, &a.Code.Expires, &a.Started, &a.AuthTime}
}

// sealedUnits are the units of sealedTimes in milliseconds. Each time is encoded as the difference
// from Issued.
var sealedUnits = [4]int64{1, 1, 1000, 1000}

func encodeSealed(rest authorization) ([]byte, error) {
	issued, binding := rest.Issued, *rest.Code
	rest.Code = &binding
	b := append(make([]byte, 0, 384), sealedCodeVersion)
	for _, text := range sealedTexts(&rest) {
		b = appendText(b, *text)
		*text = ""
	}
	for _, list := range sealedLists(&rest) {
		n := uint64(0) // nil, as opposed to an empty list
		if *list != nil {
			n = uint64(len(*list)) + 1
		}
		b = binary.AppendUvarint(b, n)
		for _, text := range *list {
			b = appendText(b, text)
		}
		*list = nil
	}
	for i, t := range sealedTimes(&rest) {
		base := issued
		if i == 0 {
			base = 0
		}
		b = binary.AppendVarint(b, *t-base/sealedUnits[i])
		*t = 0
	}
	sent := byte(0)
	if binding.RedirectURISent {
		sent, binding.RedirectURISent = 1, false
	}
	b = append(b, sent)
	if reflect.ValueOf(rest.Code).Elem().IsZero() {
		rest.Code = nil
	}
	if reflect.ValueOf(&rest).Elem().IsZero() {
		return b, nil
	}
	document, err := json.Marshal(&rest)
	if err != nil {
		return nil, fmt.Errorf("encode a code: %w", err)
	}
	return append(b, document...), nil
}

func decodeSealed(plain []byte) (authorization, error) {
	a := authorization{Code: &codeBinding{}}
	if len(plain) == 0 || plain[0] != sealedCodeVersion {
		return authorization{}, errCodeVersion
	}
	r := sealedReader{rest: plain[1:]}
	for _, text := range sealedTexts(&a) {
		*text = r.text()
	}
	for _, list := range sealedLists(&a) {
		*list = r.list()
	}
	for i, t := range sealedTimes(&a) {
		base := a.Issued
		if i == 0 {
			base = 0
		}
		*t = r.varint() + base/sealedUnits[i]
	}
	sent := r.bytes(1)
	if r.broken {
		return authorization{}, errCodeVersion
	}
	a.Code.RedirectURISent = sent[0] == 1
	if len(r.rest) == 0 {
		return a, nil
	}
	// The JSON has no members in compact form: they are left out because they are zero.
	if err := json.Unmarshal(r.rest, &a); err != nil {
		return authorization{}, errCodeVersion
	}
	return a, nil
}

// appendText appends a string. Random names, which are base64url, take three quarters of their
// length. The lowest bit of the length says whether the string is decoded.
func appendText(b []byte, text string) []byte {
	decoded := base64.RawURLEncoding.DecodedLen(len(text))
	start := len(b)
	b = binary.AppendUvarint(b, uint64(decoded)<<1|1)
	if whole, ok := decodeExactly(b, text); ok {
		return whole
	}
	b = binary.AppendUvarint(b[:start], uint64(len(text))<<1)
	return append(b, text...)
}

var strictBase64 = base64.RawURLEncoding.Strict()

// decodeExactly appends the bytes that base64url encodes as text and as nothing else.
func decodeExactly(b []byte, text string) ([]byte, bool) {
	start := len(b)
	b, err := strictBase64.AppendDecode(b, []byte(text))
	// The decoder ignores line breaks.
	return b, err == nil && len(b)-start == strictBase64.DecodedLen(len(text)) && !strings.ContainsAny(text, "\r\n")
}

// sealedReader reads what encodeSealed has written. broken is set if it ends too early.
type sealedReader struct {
	rest   []byte
	broken bool
}

func (r *sealedReader) bytes(n uint64) []byte {
	if r.broken || n > uint64(len(r.rest)) {
		r.broken = true
		return nil
	}
	read := r.rest[:n]
	r.rest = r.rest[n:]
	return read
}

func (r *sealedReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.broken = true
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *sealedReader) varint() int64 {
	v, n := binary.Varint(r.rest)
	if n <= 0 {
		r.broken = true
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *sealedReader) text() string {
	n := r.uvarint()
	read := r.bytes(n >> 1)
	if n&1 == 0 {
		return string(read)
	}
	return base64.RawURLEncoding.EncodeToString(read)
}

func (r *sealedReader) list() []string {
	n := r.uvarint()
	if n == 0 || n > uint64(len(r.rest))+1 {
		r.broken = r.broken || n != 0
		return nil
	}
	list := make([]string, n-1)
	for i := range list {
		list[i] = r.text()
	}
	return list
}

package dpop

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

// The header fields of RFC 9449, sections 4.1 and 8.1.
const (
	HeaderProof = "DPoP"
	HeaderNonce = "DPoP-Nonce"
)

// The same names as they are written in an http.Header.
const (
	canonicalProof = "Dpop"
	canonicalNonce = "Dpop-Nonce"
)

// Limits on a proof. A proof with an RSA key of 8192 bits has about 4 KiB.
const (
	MaxProofBytes = 8 << 10
	maxIDBytes    = 256
	maxURIBytes   = 4 << 10
	maxNonceBytes = 256
)

// DefaultMaxAge is how far the iat of a proof may differ from the time of the server, in both
// directions: enough for clocks that are not exact.
const DefaultMaxAge = time.Minute

// Error is the reason why a proof is not valid. It contains no part of the proof.
type Error string

func (e Error) Error() string { return "DPoP proof: " + string(e) }

// The reasons why a proof is not valid (RFC 9449, section 4.3).
const (
	ErrMissing     Error = "the DPoP header is missing"
	ErrMultiple    Error = "there is more than one DPoP header"
	ErrTooLong     Error = "it is too long"
	ErrSignature   Error = "it is not a JWT of the type dpop+jwt that is signed with the public key in its header and an accepted algorithm"
	ErrClaims      Error = "its claims are malformed"
	ErrID          Error = "jti is missing or too long"
	ErrMethod      Error = "htm is not the method of the request"
	ErrURI         Error = "htu is not the URI of the request"
	ErrTime        Error = "iat is missing, or too far from the current time"
	ErrAccessToken Error = "ath is not the hash of the access token"
)

// Algorithms returns the algorithms that Verify accepts by default: all asymmetric ones.
func Algorithms() []jose.Algorithm { return jose.SigningAlgorithms() }

// Expected is what a server requires of a proof.
type Expected struct {
	// Method is the method of the request.
	Method string
	// URIs are the URIs of the endpoint, as NormalizeURI returns them; usually one. They
	// come from the server's configuration, because a client can write anything into Host.
	URIs []string
	// AccessToken is the access token that is sent with the proof; "" if none is.
	AccessToken string
	// Algorithms are the accepted algorithms; nil means Algorithms.
	Algorithms []jose.Algorithm
	// MaxAge is how far iat may differ from Now; zero means DefaultMaxAge.
	MaxAge time.Duration
	Now    time.Time
}

// Format keeps the access token out of logs and error messages, for every verb.
func (e Expected) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "[DPoP proof for %s]", e.Method) }

// LogValue keeps the access token out of structured logs.
func (e Expected) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(e)) }

// Proof is a verified proof. The caller still has to check its nonce, if one is required, that its
// ID was not used before, and that the access token is bound to its key.
type Proof struct {
	// Thumbprint identifies the key of the sender (RFC 7638).
	Thumbprint string
	Algorithm  jose.Algorithm
	// ID is the jti. A proof is unique by Thumbprint and ID.
	ID       string
	Nonce    string
	IssuedAt time.Time
	// Expires is when the proof is no longer accepted, so that its ID can be forgotten.
	Expires time.Time
}

// FromRequest returns the proof in the header of a request, "" if there is none.
func FromRequest(header http.Header) (string, error) {
	switch values := header[canonicalProof]; {
	case len(values) == 0:
		return "", nil
	case len(values) > 1:
		return "", ErrMultiple
	case values[0] == "":
		return "", ErrSignature
	default:
		return values[0], nil
	}
}

// SetNonce sets the header DPoP-Nonce of a response.
func SetNonce(header http.Header, nonce string) { header[canonicalNonce] = []string{nonce} }

// claims are the claims of RFC 9449, section 4.2.
type claims struct {
	Method    string `json:"htm"`
	URI       string `json:"htu"`
	TokenHash string `json:"ath"`
	Nonce     string `json:"nonce"`
}

// TextMember is for jose.ParseClaims.
func (c *claims) TextMember(name string) *string {
	switch name {
	case "htm":
		return &c.Method
	case "htu":
		return &c.URI
	case "ath":
		return &c.TokenHash
	case "nonce":
		return &c.Nonce
	}
	return nil
}

// Verify verifies a proof by RFC 9449, section 4.3. The error is an Error.
func Verify(proof string, want Expected) (*Proof, error) {
	if len(proof) > MaxProofBytes {
		return nil, ErrTooLong
	}
	algorithms := want.Algorithms
	if algorithms == nil {
		algorithms = Algorithms()
	}
	payload, key, header, err := jose.VerifyEmbedded(proof, jose.Expected{
		Algorithms: algorithms, Types: []string{oauth.TypDPoPProof}, MaxBytes: MaxProofBytes,
	})
	if err != nil {
		return nil, ErrSignature
	}
	var c claims
	registered, err := jose.ParseClaims(payload, &c)
	if err != nil {
		return nil, ErrClaims
	}
	maxAge := want.MaxAge
	if maxAge == 0 {
		maxAge = DefaultMaxAge
	}
	switch {
	case registered.ID == "" || len(registered.ID) > maxIDBytes:
		return nil, ErrID
	case c.Method != want.Method:
		return nil, ErrMethod
	case !isOneOf(c.URI, want.URIs):
		return nil, ErrURI
	case registered.IssuedAt.IsZero() || registered.IssuedAt.Sub(want.Now).Abs() > maxAge,
		!registered.Expires.IsZero() && !want.Now.Before(registered.Expires),
		!registered.NotBefore.IsZero() && registered.NotBefore.Sub(want.Now) > maxAge:
		return nil, ErrTime
	case len(c.Nonce) > maxNonceBytes:
		return nil, ErrClaims
	case want.AccessToken != "" && subtle.ConstantTimeCompare([]byte(c.TokenHash), []byte(tokenHash(want.AccessToken))) != 1:
		return nil, ErrAccessToken
	}
	return &Proof{
		Thumbprint: key.Thumbprint(), Algorithm: header.Algorithm, ID: registered.ID, Nonce: c.Nonce, IssuedAt: registered.IssuedAt,
		// One second more, because the times of stores are not exact.
		Expires: registered.IssuedAt.Add(maxAge + time.Second),
	}, nil
}

// tokenHash returns the ath of an access token.
func tokenHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// AlgorithmNames returns algorithms as strings, for metadata and challenges.
func AlgorithmNames(algorithms []jose.Algorithm) []string {
	names := make([]string, len(algorithms))
	for i, alg := range algorithms {
		names[i] = string(alg)
	}
	return slices.Clip(names)
}

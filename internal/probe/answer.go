package probe

import "time"

// AnswerMark is the value of Header in the response with an answer, which is JSON.
const AnswerMark = "answer"

// PaddingHeader is the response header with Question.HeaderBytes bytes.
const PaddingHeader = "Valetkey-Probe-Padding"

// TokenType is the typ of Answer.Token. No client and no API accepts it.
const TokenType = "valetkey-probe+jwt"

// MaxBodyBytes is how much of a request's body is counted.
const MaxBodyBytes = 1 << 20

// Answer says how a request arrived, and how the process is doing.
type Answer struct {
	Version string    `json:"version"`
	Time    time.Time `json:"time"`

	// Host, Target and Method are those of the request; Target has the path and the query.
	Host   string `json:"host"`
	Target string `json:"target"`
	Method string `json:"method"`
	// TLS says that this process, and not a proxy, ended the TLS connection.
	TLS bool `json:"tls"`
	// Peer is the address that connected. PeerTrusted says whether trusted_proxies has it. Address is
	// the address that the server takes for the client's.
	Peer        string `json:"peer"`
	PeerTrusted bool   `json:"peer_trusted"`
	Address     string `json:"address"`
	// Header are the headers in which proxies describe the original request.
	Header map[string][]string `json:"header"`
	// Cookies are the names of the cookies in the request.
	Cookies []string `json:"cookies"`
	// BodyBytes is how much of the body arrived, at most MaxBodyBytes.
	BodyBytes int64 `json:"body_bytes"`

	// OpenFiles is how many files the process has open, and OpenFilesLimit how many it may have; zero
	// if that is not known.
	OpenFiles      int    `json:"open_files"`
	OpenFilesLimit uint64 `json:"open_files_limit"`
	// Ready are the lines of /readyz, or the reason why the node is not ready.
	Ready    []string `json:"ready"`
	NotReady string   `json:"not_ready,omitempty"`

	// Token is a JWT of TokenType, SignMicroseconds how long its signature took, and KeySince when its
	// key began to sign. SignError is why there is none. SignExternal says that the key is in an external
	// signer, and FailingKeys are the IDs of such keys whose last signature failed.
	Token            string    `json:"token,omitempty"`
	SignMicroseconds int64     `json:"sign_microseconds,omitempty"`
	KeySince         time.Time `json:"key_since,omitzero"`
	SignError        string    `json:"sign_error,omitempty"`
	SignExternal     bool      `json:"sign_external,omitempty"`
	FailingKeys      []string  `json:"failing_keys,omitempty"`
}

// ProxyHeaders are the headers in Answer.Header.
var ProxyHeaders = []string{"X-Forwarded-For", "Forwarded", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Real-Ip", "Via"}

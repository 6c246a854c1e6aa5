package audit

import (
	"bufio"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Checkpoint states the hash of the chain after a record. It is useful where the author of a change
// to the database cannot change it too.
type Checkpoint struct {
	Issuer   string
	Sequence int64
	Hash     []byte
	Time     time.Time
	// RemovedBefore is set in the statement that the records up to this one were removed: because they
	// were made before that time.
	RemovedBefore time.Time
	// Key is the thumbprint (RFC 7638) of the key that signed.
	Key string
	// Text is the JWS in compact serialization (RFC 7515, section 7.1).
	Text string
}

// checkpointType is the typ of a checkpoint's JWS.
const checkpointType = "valetkey-audit-checkpoint+jwt"

type checkpointHeader struct {
	Type      string        `json:"typ"`
	Algorithm string        `json:"alg"`
	Key       checkpointKey `json:"jwk"`
}

// checkpointKey is the public key (RFC 8037, section 2). Its members are in the order of RFC 7638.
type checkpointKey struct {
	Curve string `json:"crv"`
	Type  string `json:"kty"`
	X     string `json:"x"`
}

type checkpointClaims struct {
	Issuer   string `json:"iss,omitempty"`
	IssuedAt int64  `json:"iat"`
	Sequence int64  `json:"sequence"`
	Hash     string `json:"hash"`
	// RemovedBefore keeps a checkpoint, which others may read, from being used as the statement about
	// removed records.
	RemovedBefore int64 `json:"removed_before,omitempty"`
}

func publicKey(key ed25519.PublicKey) checkpointKey {
	return checkpointKey{"Ed25519", "OKP", base64.RawURLEncoding.EncodeToString(key)}
}

// Thumbprint returns the thumbprint of a key that signs checkpoints (RFC 7638).
func Thumbprint(key ed25519.PublicKey) string { return publicKey(key).thumbprint() }

func (k checkpointKey) thumbprint() string {
	encoded, err := json.Marshal(k)
	if err != nil { // strings always encode
		return ""
	}
	digest := sha256.Sum256(encoded)
	return base64.RawURLEncoding.EncodeToString(digest[:])
}

// Sign returns a checkpoint as a JWS.
func Sign(key ed25519.PrivateKey, c Checkpoint) (string, error) {
	header, err := json.Marshal(checkpointHeader{checkpointType, "EdDSA", publicKey(key.Public().(ed25519.PublicKey))})
	if err != nil {
		return "", fmt.Errorf("sign a checkpoint: %w", err)
	}
	members := checkpointClaims{Issuer: c.Issuer, IssuedAt: c.Time.Unix(), Sequence: c.Sequence, Hash: hex.EncodeToString(c.Hash)}
	if !c.RemovedBefore.IsZero() {
		members.RemovedBefore = c.RemovedBefore.Unix()
	}
	claims, err := json.Marshal(members)
	if err != nil {
		return "", fmt.Errorf("sign a checkpoint: %w", err)
	}
	input := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(claims)
	return input + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(input))), nil
}

var errCheckpoint = errors.New("this is not a checkpoint, or its signature is wrong")

// ParseCheckpoint verifies the signature of a checkpoint with the key that it contains. Whether that
// is a key of the server is for the caller to decide (Checkpoint.Key).
func ParseCheckpoint(text string) (*Checkpoint, error) {
	parts := strings.Split(strings.TrimSpace(text), ".")
	if len(parts) != 3 || len(text) > 4096 {
		return nil, errCheckpoint
	}
	var decoded [3][]byte
	for i, part := range parts {
		b, err := base64.RawURLEncoding.Strict().DecodeString(part)
		if err != nil {
			return nil, errCheckpoint
		}
		decoded[i] = b
	}
	var header checkpointHeader
	var claims checkpointClaims
	if json.Unmarshal(decoded[0], &header) != nil || json.Unmarshal(decoded[1], &claims) != nil {
		return nil, errCheckpoint
	}
	key, err := base64.RawURLEncoding.Strict().DecodeString(header.Key.X)
	if err != nil || header.Type != checkpointType || header.Algorithm != "EdDSA" || header.Key.Curve != "Ed25519" || header.Key.Type != "OKP" ||
		len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, []byte(parts[0]+"."+parts[1]), decoded[2]) {
		return nil, errCheckpoint
	}
	hash, err := hex.DecodeString(claims.Hash)
	if err != nil || claims.Sequence < 0 || claims.Sequence > 0 && len(hash) != sha256.Size {
		return nil, errCheckpoint
	}
	c := &Checkpoint{
		Issuer: claims.Issuer, Sequence: claims.Sequence, Hash: hash, Time: time.Unix(claims.IssuedAt, 0).UTC(),
		Key: header.Key.thumbprint(), Text: strings.TrimSpace(text),
	}
	if claims.RemovedBefore != 0 {
		c.RemovedBefore = time.Unix(claims.RemovedBefore, 0).UTC()
	}
	return c, nil
}

// ReadCheckpoints reads a file with a checkpoint in each line. Lines of another form, such as those
// of syslog, may have text before the checkpoint. keys are the thumbprints of the keys that are
// trusted; if there are none, every key is.
func ReadCheckpoints(r io.Reader, keys ...string) ([]*Checkpoint, error) {
	var all []*Checkpoint
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		c, err := ParseCheckpoint(fields[len(fields)-1])
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if !c.RemovedBefore.IsZero() {
			return nil, fmt.Errorf("line %d: this is the statement about removed records, not a checkpoint", n)
		}
		if len(keys) > 0 && !slices.Contains(keys, c.Key) {
			return nil, fmt.Errorf("line %d: the checkpoint is signed with the key %s, which is not trusted", n, c.Key)
		}
		all = append(all, c)
	}
	return all, lines.Err()
}

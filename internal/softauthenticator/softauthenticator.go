// Package softauthenticator is a browser with an authenticator, for tests: it answers the options of
// WebAuthn ceremonies, and can be told to answer them wrongly.
package softauthenticator

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Flags of authenticator data (WebAuthn Level 3, section 6.1).
const (
	UserPresent    = 1 << 0
	UserVerified   = 1 << 2
	BackupEligible = 1 << 3
	BackedUp       = 1 << 4
	attested       = 1 << 6
)

// COSE algorithms.
const (
	ES256 = -7
	EdDSA = -8
	RS256 = -257
)

// Authenticator has the passkeys of one user at any number of relying parties.
type Authenticator struct {
	// Origin is the origin of the page that calls the authenticator.
	Origin string
	// CrossOrigin is set if the page is in a frame of another origin.
	CrossOrigin bool
	// RPID replaces the RP ID of the options, if it is set.
	RPID string
	// Flags of the authenticator data, except that credential data is attested.
	Flags byte
	// Count is the signature counter of the last assertion. Counting adds one each time.
	Count    uint32
	Counting bool
	AAGUID   [16]byte
	// Algorithm is ES256 if it is zero.
	Algorithm int
	// RSABits is the size of RSA keys; zero means 2048.
	RSABits int
	// Attest returns an attestation statement in CBOR for the signed bytes; nil means none.
	Attest func(signed []byte) (format string, statement []byte, err error)
	// CredentialIDBytes is the length of new credential IDs; zero means 16.
	CredentialIDBytes int

	Credentials []*Credential
}

// Credential is a passkey.
type Credential struct {
	ID, UserHandle []byte
	RPID, UserName string
	Key            crypto.Signer
}

// New returns an authenticator that verifies its user, with passkeys that are backed up.
func New(origin string) *Authenticator {
	return &Authenticator{Origin: origin, Flags: UserPresent | UserVerified | BackupEligible | BackedUp}
}

type clientData struct {
	Type        string `json:"type"`
	Challenge   string `json:"challenge"`
	Origin      string `json:"origin"`
	CrossOrigin bool   `json:"crossOrigin"`
}

func (a *Authenticator) clientData(kind, challenge string) []byte {
	b, _ := json.Marshal(clientData{kind, challenge, a.Origin, a.CrossOrigin}) // strings
	return b
}

type response struct {
	ID         string            `json:"id"`
	RawID      string            `json:"rawId"`
	Type       string            `json:"type"`
	Attachment string            `json:"authenticatorAttachment"`
	Response   map[string]any    `json:"response"`
	Extensions map[string]string `json:"clientExtensionResults"`
}

func credentialResponse(id []byte, members map[string]any) ([]byte, error) {
	return json.Marshal(response{encode(id), encode(id), "public-key", "platform", members, map[string]string{}})
}

// Create answers PublicKeyCredentialCreationOptionsJSON with a RegistrationResponseJSON.
func (a *Authenticator) Create(options []byte) ([]byte, error) {
	var o struct {
		Challenge string                       `json:"challenge"`
		RP        struct{ ID string }          `json:"rp"`
		User      struct{ ID, Name string }    `json:"user"`
		Exclude   []struct{ ID string }        `json:"excludeCredentials"`
		Selection struct{ ResidentKey string } `json:"authenticatorSelection"`
	}
	if err := json.Unmarshal(options, &o); err != nil {
		return nil, err
	}
	for _, excluded := range o.Exclude {
		if slices.ContainsFunc(a.Credentials, func(c *Credential) bool { return encode(c.ID) == excluded.ID }) {
			return nil, errors.New("InvalidStateError: the authenticator has an excluded credential")
		}
	}
	handle, err := base64.RawURLEncoding.DecodeString(o.User.ID)
	if err != nil {
		return nil, err
	}
	key, public, err := a.newKey()
	if err != nil {
		return nil, err
	}
	c := &Credential{ID: make([]byte, max(a.CredentialIDBytes, 16)), UserHandle: handle, RPID: o.RP.ID, UserName: o.User.Name, Key: key}
	rand.Read(c.ID)
	data := a.authenticatorData(c, a.Flags|attested)
	data = append(data, a.AAGUID[:]...)
	data = binary.BigEndian.AppendUint16(data, uint16(len(c.ID)))
	data = append(append(data, c.ID...), public...)
	client := a.clientData("webauthn.create", o.Challenge)
	format, statement := "none", []byte{0xa0}
	if a.Attest != nil {
		hash := sha256.Sum256(client)
		if format, statement, err = a.Attest(slices.Concat(data, hash[:])); err != nil {
			return nil, err
		}
	}
	object := Map(Text("fmt"), Text(format), Text("attStmt"), statement, Text("authData"), Bytes(data))
	a.Credentials = append(a.Credentials, c)
	return credentialResponse(c.ID, map[string]any{"clientDataJSON": encode(client), "attestationObject": encode(object), "transports": []string{"internal", "hybrid"}})
}

// Get answers PublicKeyCredentialRequestOptionsJSON with an AuthenticationResponseJSON, by the newest
// passkey that fits.
func (a *Authenticator) Get(options []byte) ([]byte, error) {
	var o struct {
		Challenge, RPID string
		Allow           []struct{ ID string } `json:"allowCredentials"`
	}
	if err := json.Unmarshal(options, &o); err != nil {
		return nil, err
	}
	for _, c := range slices.Backward(a.Credentials) {
		allowed := len(o.Allow) == 0 || slices.ContainsFunc(o.Allow, func(d struct{ ID string }) bool { return d.ID == encode(c.ID) })
		if c.RPID == o.RPID && allowed {
			return a.assert(c, a.clientData("webauthn.get", o.Challenge))
		}
	}
	return nil, errors.New("NotAllowedError: no passkey fits")
}

func (a *Authenticator) assert(c *Credential, client []byte) ([]byte, error) {
	if a.Counting {
		a.Count++
	}
	data := a.authenticatorData(c, a.Flags)
	hash := sha256.Sum256(client)
	signature, err := sign(c.Key, slices.Concat(data, hash[:]))
	if err != nil {
		return nil, err
	}
	return credentialResponse(c.ID, map[string]any{
		"clientDataJSON": encode(client), "authenticatorData": encode(data), "signature": encode(signature), "userHandle": encode(c.UserHandle),
	})
}

func (a *Authenticator) authenticatorData(c *Credential, flags byte) []byte {
	id := c.RPID
	if a.RPID != "" {
		id = a.RPID
	}
	hash := sha256.Sum256([]byte(id))
	return binary.BigEndian.AppendUint32(append(hash[:], flags), a.Count)
}

func sign(key crypto.Signer, message []byte) ([]byte, error) {
	if _, ok := key.(ed25519.PrivateKey); ok {
		return key.Sign(nil, message, crypto.Hash(0))
	}
	hash := sha256.Sum256(message)
	return key.Sign(rand.Reader, hash[:], crypto.SHA256)
}

// newKey returns a key and its COSE_Key.
func (a *Authenticator) newKey() (crypto.Signer, []byte, error) {
	switch a.Algorithm {
	case 0, ES256:
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, nil, err
		}
		point, err := key.PublicKey.Bytes()
		if err != nil {
			return nil, nil, err
		}
		return key, Map(Int(1), Int(2), Int(3), Int(ES256), Int(-1), Int(1), Int(-2), Bytes(point[1:33]), Int(-3), Bytes(point[33:])), nil
	case EdDSA:
		public, key, err := ed25519.GenerateKey(rand.Reader)
		return key, Map(Int(1), Int(1), Int(3), Int(EdDSA), Int(-1), Int(6), Int(-2), Bytes(public)), err
	case RS256:
		key, err := rsa.GenerateKey(rand.Reader, max(a.RSABits, 1024))
		if err != nil {
			return nil, nil, err
		}
		return key, Map(Int(1), Int(3), Int(3), Int(RS256), Int(-1), Bytes(key.N.Bytes()), Int(-2), Bytes([]byte{1, 0, 1})), nil
	}
	// An algorithm that no one accepts, with a key of the right form.
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	point, err := key.PublicKey.Bytes()
	return key, Map(Int(1), Int(2), Int(3), Int(a.Algorithm), Int(-1), Int(2), Int(-2), Bytes(point[1:49]), Int(-3), Bytes(point[49:])), err
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// CBOR (RFC 8949), as far as it is needed here.

// Int returns an integer in CBOR.
func Int(n int) []byte {
	if n < 0 {
		return head(1, uint64(-1-n))
	}
	return head(0, uint64(n))
}

// Bytes returns a byte string in CBOR.
func Bytes(b []byte) []byte { return append(head(2, uint64(len(b))), b...) }

// Text returns a text string in CBOR.
func Text(s string) []byte { return append(head(3, uint64(len(s))), s...) }

// Array returns an array of encoded items.
func Array(items ...[]byte) []byte {
	return append(head(4, uint64(len(items))), bytes.Join(items, nil)...)
}

// Map returns a map of encoded keys and values, in the given order.
func Map(items ...[]byte) []byte {
	return append(head(5, uint64(len(items)/2)), bytes.Join(items, nil)...)
}

func head(major byte, n uint64) []byte {
	switch {
	case n < 24:
		return []byte{major<<5 | byte(n)}
	case n < 1<<8:
		return []byte{major<<5 | 24, byte(n)}
	case n < 1<<16:
		return binary.BigEndian.AppendUint16([]byte{major<<5 | 25}, uint16(n))
	}
	return binary.BigEndian.AppendUint32([]byte{major<<5 | 26}, uint32(n))
}

// Format keeps the private key out of messages.
func (c Credential) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "[passkey of %q]", c.UserName) }

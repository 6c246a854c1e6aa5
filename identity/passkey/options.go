package passkey

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/valetkey/valetkey/identity"
)

// The algorithms of new passkeys, in the order of preference (section 5.4): what every authenticator
// in use has. A passkey with another algorithm is refused.
const (
	algEdDSA = -8
	algES256 = -7
	algRS256 = -257
)

var algorithms = []int{algES256, algEdDSA, algRS256}

type algorithm struct {
	Type string `json:"type"`
	Alg  int    `json:"alg"`
}

type descriptor struct {
	Type       string   `json:"type"`
	ID         string   `json:"id"`
	Transports []string `json:"transports,omitempty"`
}

type entity struct {
	ID          string `json:"id,omitempty"`
	Name        string `json:"name"`
	DisplayName string `json:"displayName,omitempty"`
}

type selection struct {
	ResidentKey        string `json:"residentKey"`
	RequireResidentKey bool   `json:"requireResidentKey"`
	UserVerification   string `json:"userVerification"`
}

// creationOptions is PublicKeyCredentialCreationOptionsJSON (section 5.1.9).
type creationOptions struct {
	Challenge   string       `json:"challenge"`
	RP          entity       `json:"rp"`
	User        entity       `json:"user"`
	Params      []algorithm  `json:"pubKeyCredParams"`
	Timeout     int64        `json:"timeout"`
	Exclude     []descriptor `json:"excludeCredentials"`
	Selection   selection    `json:"authenticatorSelection"`
	Attestation string       `json:"attestation"`
}

// requestOptions is PublicKeyCredentialRequestOptionsJSON (section 5.1.10).
type requestOptions struct {
	Challenge        string       `json:"challenge"`
	Timeout          int64        `json:"timeout"`
	RPID             string       `json:"rpId"`
	Allow            []descriptor `json:"allowCredentials"`
	UserVerification string       `json:"userVerification"`
}

// UserHandle returns the user handle of a user (section 4): the user's ID, which is random and never
// reused.
func UserHandle(userID string) string { return base64.RawURLEncoding.EncodeToString([]byte(userID)) }

// CreationOptions returns the options for a new passkey of a user. existing are the passkeys that
// the user has.
func (rp *RelyingParty) CreationOptions(now time.Time, c Ceremony, user *identity.User, displayName string, existing []identity.Passkey) (json.RawMessage, error) {
	o := creationOptions{
		Challenge: rp.challenge(now, c), Timeout: Timeout.Milliseconds(),
		RP:        entity{ID: rp.rpID, Name: rp.config.Name},
		User:      entity{ID: UserHandle(user.ID), Name: user.Username, DisplayName: displayName},
		Exclude:   descriptors(existing),
		Selection: selection{ResidentKey: "required", RequireResidentKey: true, UserVerification: rp.userVerification()},
		// Attestation is asked for only if it is verified: some browsers ask the user about it.
		Attestation: "none",
	}
	if rp.RequiresAttestation() {
		o.Attestation = "direct"
	}
	for _, alg := range algorithms {
		o.Params = append(o.Params, algorithm{"public-key", alg})
	}
	return encode(o)
}

// RequestOptions returns the options for the use of a passkey. allowed are the only passkeys that
// may be used; none means any. For SignIn there must be none: a list would show which accounts
// exist (section 14.6.2).
func (rp *RelyingParty) RequestOptions(now time.Time, c Ceremony, allowed []identity.Passkey) (json.RawMessage, error) {
	return encode(requestOptions{
		Challenge: rp.challenge(now, c), Timeout: Timeout.Milliseconds(), RPID: rp.rpID,
		Allow: descriptors(allowed), UserVerification: rp.userVerification(),
	})
}

func (rp *RelyingParty) userVerification() string {
	if rp.config.OptionalUserVerification {
		return "preferred"
	}
	return "required"
}

func descriptors(passkeys []identity.Passkey) []descriptor {
	d := []descriptor{}
	for _, p := range passkeys {
		d = append(d, descriptor{Type: "public-key", ID: base64.RawURLEncoding.EncodeToString(p.CredentialID), Transports: p.Transports})
	}
	return d
}

func encode(options any) (json.RawMessage, error) {
	b, err := json.Marshal(options)
	if err != nil {
		return nil, fmt.Errorf("encode options for a passkey: %w", err)
	}
	return b, nil
}

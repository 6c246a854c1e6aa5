package passkey

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"time"
)

// A challenge is made so that nothing has to be stored until it is used: it contains a random
// number and its expiry, and a MAC over these and over what the ceremony is bound to. Whoever asks
// for many challenges costs no writes. That a challenge was used is stored when the ceremony
// succeeds (WebAuthn Level 3, section 13.4.3).

// Purpose is what a ceremony is for. A challenge for one purpose is useless for another.
type Purpose string

// The purposes of ceremonies.
const (
	SignIn  Purpose = "sign_in" // any passkey of this relying party
	Confirm Purpose = "confirm" // one of the passkeys of Ceremony.User
	Create  Purpose = "create"  // a new passkey of Ceremony.User
	SignUp  Purpose = "sign_up" // the passkey of a new account, which will have the ID Ceremony.User
	// Upgrade is a new passkey that the browser creates without asking, after the user signed in
	// with a password (conditional create, section 5.1.3).
	Upgrade Purpose = "upgrade"
)

// Ceremony is what a challenge is bound to.
type Ceremony struct {
	Purpose Purpose
	// Browser is a secret from a cookie, so that a challenge works only in the browser that asked.
	Browser string
	// User is the ID of the user; "" for SignIn.
	User string
}

// Format keeps the secret of the browser out of logs and messages.
func (c Ceremony) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "[ceremony %s]", string(c.Purpose)) }

const (
	// ChallengeLifetime is longer than Timeout.
	ChallengeLifetime = 5 * time.Minute

	challengeNonce  = 16
	challengePrefix = 8 + challengeNonce // expiry in seconds, nonce
	challengeBytes  = challengePrefix + sha256.Size
)

// challenge returns a new challenge, as base64url.
func (rp *RelyingParty) challenge(now time.Time, c Ceremony) string {
	b := make([]byte, challengePrefix, challengeBytes)
	binary.BigEndian.PutUint64(b, uint64(now.Add(ChallengeLifetime).Unix()))
	rand.Read(b[8:])
	return base64.RawURLEncoding.EncodeToString(append(b, rp.challengeMAC(c, b)...))
}

func (rp *RelyingParty) challengeMAC(c Ceremony, prefix []byte) []byte {
	mac := hmac.New(sha256.New, rp.config.Secret)
	for _, part := range []string{"valetkey passkey challenge", string(c.Purpose), c.Browser, c.User, string(prefix)} {
		fmt.Fprintf(mac, "%d:%s", len(part), part)
	}
	return mac.Sum(nil)
}

// checkChallenge checks the challenge of a response. It returns until when the challenge must be
// remembered as used.
func (rp *RelyingParty) checkChallenge(now time.Time, c Ceremony, challenge string) (expires time.Time, err error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(challenge)
	if err != nil || len(b) != challengeBytes || c.Browser == "" {
		return time.Time{}, refuse(ReasonChallenge, err)
	}
	if !hmac.Equal(b[challengePrefix:], rp.challengeMAC(c, b[:challengePrefix])) {
		return time.Time{}, refuse(ReasonChallenge, nil)
	}
	expires = time.Unix(int64(binary.BigEndian.Uint64(b)), 0)
	if !now.Before(expires) {
		return time.Time{}, refuse(ReasonExpired, nil)
	}
	return expires, nil
}

package passkey

import (
	"bytes"
	"errors"
	"time"

	"github.com/go-webauthn/webauthn/protocol"

	"github.com/valetkey/valetkey/identity"
)

// maxAssertionBytes bounds the response to request options. A credential ID is at most 1023 bytes.
const maxAssertionBytes = 8 << 10

// maxUserHandleBytes is the limit of section 4.
const maxUserHandleBytes = 64

// Assertion is a response to request options that has not been verified.
type Assertion struct {
	// User is the ID of the user that the authenticator names; "" if it names none.
	User         string
	CredentialID []byte

	parsed *protocol.ParsedCredentialAssertionData
}

// Used is a verified use of a passkey.
type Used struct {
	// UserVerified is set if the authenticator verified the user with a PIN or biometrics, so that
	// the passkey is two factors.
	UserVerified bool
	SignCount    uint32
	BackedUp     bool
	// Challenge is the challenge that was used. The caller remembers it until ChallengeExpires, and
	// refuses a second use.
	Challenge        string
	ChallengeExpires time.Time
}

// ParseAssertion reads a response. The error is a *RefusedError.
func ParseAssertion(response []byte) (*Assertion, error) {
	if len(response) > maxAssertionBytes {
		return nil, refuse(ReasonMalformed, errors.New("the response is too long"))
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(response)
	if err != nil {
		return nil, refuse(ReasonMalformed, err)
	}
	a := &Assertion{User: string(parsed.Response.UserHandle), CredentialID: parsed.RawID, parsed: parsed}
	if len(a.CredentialID) > identity.MaxCredentialIDBytes || len(a.User) > maxUserHandleBytes {
		return nil, refuse(ReasonMalformed, errors.New("the credential ID or user handle is too long"))
	}
	return a, nil
}

// VerifyAssertion verifies that a passkey of a user made an assertion (section 7.2). The error is a
// *RefusedError. The caller compares the signature counter, under a lock.
func (rp *RelyingParty) VerifyAssertion(now time.Time, c Ceremony, a *Assertion, userID string, p *identity.Passkey) (*Used, error) {
	client, data := &a.parsed.Response.CollectedClientData, &a.parsed.Response.AuthenticatorData
	expires, err := rp.checkClientData(now, c, client)
	if err != nil {
		return nil, err
	}
	// Step 6. If the user is known, the authenticator does not have to name the user.
	if a.User != userID && (a.User != "" || c.Purpose == SignIn) || !bytes.Equal(a.CredentialID, p.CredentialID) {
		return nil, refuse(ReasonUser, nil)
	}
	require := authenticatorChecks{presence: true, verification: !rp.config.OptionalUserVerification}
	if err := rp.checkAuthenticatorData(data, require); err != nil {
		return nil, err
	}
	if data.Flags.HasBackupEligible() != p.BackupEligible { // step 19
		return nil, refuse(ReasonBackupFlags, nil)
	}
	if err := a.parsed.Verify(client.Challenge, rp.rpID, "", []string{rp.origin}, nil, nil, protocol.TopOriginExplicitVerificationMode, false,
		require.verification, true, p.PublicKey, protocol.SignaturePolicy{}); err != nil {
		return nil, refuse(ReasonSignature, err)
	}
	return &Used{
		UserVerified: data.Flags.HasUserVerified(), SignCount: data.Counter, BackedUp: data.Flags.HasBackupState(),
		Challenge: client.Challenge, ChallengeExpires: expires,
	}, nil
}

package passkey

import (
	"crypto/sha256"
	"errors"
	"slices"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"

	"github.com/valetkey/valetkey/identity"
)

const (
	// maxCreationBytes bounds the response to creation options. An attestation of a TPM has three
	// certificates.
	maxCreationBytes  = 32 << 10
	maxPublicKeyBytes = 2 << 10
	minRSABytes       = 256
)

// knownTransports are the values of AuthenticatorTransport (section 5.8.4). Others are not stored.
var knownTransports = []string{"usb", "nfc", "ble", "smart-card", "hybrid", "internal"}

// Created is a verified new passkey.
type Created struct {
	Passkey identity.Passkey
	// UserVerified is as in Used.
	UserVerified bool
	// Challenge is the challenge that was used. The caller remembers it until ChallengeExpires, and
	// refuses a second use.
	Challenge        string
	ChallengeExpires time.Time
}

// VerifyCreation verifies the response of a browser to creation options (section 7.1). The error is a
// *RefusedError.
func (rp *RelyingParty) VerifyCreation(now time.Time, c Ceremony, response []byte) (*Created, error) {
	if len(response) > maxCreationBytes {
		return nil, refuse(ReasonMalformed, errors.New("the response is too long"))
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(response)
	if err != nil {
		return nil, refuse(ReasonMalformed, err)
	}
	client, data := &parsed.Response.CollectedClientData, &parsed.Response.AttestationObject.AuthData
	expires, err := rp.checkClientData(now, c, client)
	if err != nil {
		return nil, err
	}
	// A browser that creates a passkey after a sign-in with a password may do so without the user
	// (section 7.1, step 15). The use of the passkey then requires more.
	require := authenticatorChecks{presence: c.Purpose != Upgrade, verification: c.Purpose != Upgrade && !rp.config.OptionalUserVerification}
	if err := rp.checkAuthenticatorData(data, require); err != nil {
		return nil, err
	}
	if n := len(data.AttData.CredentialID); n == 0 || n > identity.MaxCredentialIDBytes {
		return nil, refuse(ReasonMalformed, errors.New("the credential ID is too long"))
	}
	if err := checkPublicKey(data.AttData.CredentialPublicKey); err != nil {
		return nil, err
	}
	aaguid := formatAAGUID(data.AttData.AAGUID)
	format, err := rp.checkAttestation(now, parsed, aaguid)
	if err != nil {
		return nil, err
	}
	if _, err := parsed.Verify(client.Challenge, rp.rpID, []string{rp.origin}, nil, nil, protocol.TopOriginExplicitVerificationMode, false,
		require.verification, require.presence, nil, parameters(), protocol.AttestationPolicy{}, protocol.SignaturePolicy{}); err != nil {
		return nil, refuse(ReasonAttestation, err)
	}
	return &Created{
		Passkey: identity.Passkey{
			CredentialID: slices.Clone(data.AttData.CredentialID), PublicKey: slices.Clone(data.AttData.CredentialPublicKey),
			AAGUID: aaguid, Attestation: format, Transports: transports(parsed.Response.Transports), SignCount: data.Counter,
			BackupEligible: data.Flags.HasBackupEligible(), BackedUp: data.Flags.HasBackupState(),
		},
		UserVerified: data.Flags.HasUserVerified(), Challenge: client.Challenge, ChallengeExpires: expires,
	}, nil
}

func parameters() []protocol.CredentialParameter {
	var p []protocol.CredentialParameter
	for _, alg := range algorithms {
		p = append(p, protocol.CredentialParameter{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.COSEAlgorithmIdentifier(alg)})
	}
	return p
}

// transports returns the transports to store: each known one once.
func transports(sent []protocol.AuthenticatorTransport) []string {
	var known []string
	for _, transport := range knownTransports {
		if slices.Contains(sent, protocol.AuthenticatorTransport(transport)) {
			known = append(known, transport)
		}
	}
	return known
}

// checkPublicKey refuses keys of other algorithms and weak ones.
func checkPublicKey(encoded []byte) error {
	if len(encoded) > maxPublicKeyBytes {
		return refuse(ReasonAlgorithm, errors.New("the public key is too long"))
	}
	key, err := webauthncose.ParsePublicKey(encoded)
	if err != nil {
		return refuse(ReasonAlgorithm, err)
	}
	ok := false
	switch key := key.(type) {
	case webauthncose.EC2PublicKeyData:
		ok = key.Algorithm == algES256
	case webauthncose.OKPPublicKeyData:
		ok = key.Algorithm == algEdDSA
	case webauthncose.RSAPublicKeyData:
		ok = key.Algorithm == algRS256 && len(key.Modulus) >= minRSABytes && key.Modulus[0] != 0
	}
	if !ok {
		return refuse(ReasonAlgorithm, nil)
	}
	return nil
}

// checkClientData checks what the browser says about the ceremony (section 7.1, steps 7 to 13, and
// section 7.2, steps 10 to 15). The pages refuse to be framed, so a ceremony in a frame is not ours.
func (rp *RelyingParty) checkClientData(now time.Time, c Ceremony, client *protocol.CollectedClientData) (expires time.Time, err error) {
	want := protocol.AssertCeremony
	if c.Purpose == Create || c.Purpose == SignUp || c.Purpose == Upgrade {
		want = protocol.CreateCeremony
	}
	if client.Type != want {
		return time.Time{}, refuse(ReasonMalformed, errors.New("the type of the client data is wrong"))
	}
	if expires, err = rp.checkChallenge(now, c, client.Challenge); err != nil {
		return time.Time{}, err
	}
	if client.Origin != rp.origin {
		return time.Time{}, refuse(ReasonOrigin, nil)
	}
	if client.CrossOrigin || client.TopOrigin != "" {
		return time.Time{}, refuse(ReasonCrossOrigin, nil)
	}
	return expires, nil
}

// authenticatorChecks are the flags that must be set.
type authenticatorChecks struct{ presence, verification bool }

// checkAuthenticatorData checks what the authenticator says (section 7.1, steps 14 to 18).
func (rp *RelyingParty) checkAuthenticatorData(data *protocol.AuthenticatorData, require authenticatorChecks) error {
	hash := sha256.Sum256([]byte(rp.rpID))
	switch {
	case !slices.Equal(data.RPIDHash, hash[:]):
		return refuse(ReasonRPID, nil)
	case require.presence && !data.Flags.HasUserPresent():
		return refuse(ReasonUserPresence, nil)
	case require.verification && !data.Flags.HasUserVerified():
		return refuse(ReasonUserVerification, nil)
	case data.Flags.HasBackupState() && !data.Flags.HasBackupEligible():
		return refuse(ReasonBackupFlags, nil)
	}
	return nil
}

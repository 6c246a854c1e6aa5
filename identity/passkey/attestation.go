package passkey

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
)

// attestedFormats are the formats of attestation statements that are verified. The others are
// obsolete (android-safetynet) or no authenticator in use has them (compound).
var attestedFormats = []string{"packed", "tpm", "android-key", "apple", "fido-u2f"}

const maxCertificates = 6

var subjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// checkAttestation checks that the model is allowed, and returns the format of the attestation if one
// is required. If none is required, the statement is not looked at: a signature that leads nowhere
// proves nothing, and reading it would only expose more code to strangers.
//
// The caller then verifies the signature of the statement.
func (rp *RelyingParty) checkAttestation(now time.Time, parsed *protocol.ParsedCredentialCreationData, aaguid string) (format string, err error) {
	object := &parsed.Response.AttestationObject
	if len(rp.config.AAGUIDs) > 0 && !slices.Contains(rp.config.AAGUIDs, aaguid) {
		return "", refuse(ReasonModel, nil)
	}
	if rp.config.AttestationRoots == nil {
		object.Format, object.AttStatement, object.SubStatements = "none", nil, nil
		return "", nil
	}
	if !slices.Contains(attestedFormats, object.Format) {
		return "", refuse(ReasonAttestation, fmt.Errorf("no attestation statement that is accepted, but %.20q", object.Format))
	}
	if err := rp.checkCertificates(now, object.AttStatement); err != nil {
		return "", refuse(ReasonAttestation, err)
	}
	return object.Format, nil
}

// checkCertificates checks that the certificate of an attestation leads to a root (section 7.1, step
// 24). Self attestation has none.
func (rp *RelyingParty) checkCertificates(now time.Time, statement map[string]any) error {
	chain, _ := statement["x5c"].([]any)
	if len(chain) == 0 || len(chain) > maxCertificates {
		return errors.New("the statement has no certificates")
	}
	var leaf *x509.Certificate
	between := x509.NewCertPool()
	for i, encoded := range chain {
		der, _ := encoded.([]byte)
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("certificate of the attestation: %w", err)
		}
		if i == 0 {
			leaf = certificate
			continue
		}
		between.AddCert(certificate)
	}
	// The names in certificates of TPMs are critical, and Go does not read them. The format's own
	// verification does (section 8.3.1).
	leaf.UnhandledCriticalExtensions = slices.DeleteFunc(leaf.UnhandledCriticalExtensions, func(id asn1.ObjectIdentifier) bool { return id.Equal(subjectAltName) })
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: rp.config.AttestationRoots, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return fmt.Errorf("certificate of the attestation: %w", err)
	}
	return nil
}

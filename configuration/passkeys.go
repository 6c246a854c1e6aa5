package configuration

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"github.com/valetkey/valetkey/identity/passkey"
)

// Passkeys says how users sign in with passkeys (WebAuthn Level 3).
type Passkeys struct {
	// Off means that there are no passkeys.
	Off bool `json:"off,omitempty"`
	// RPID is the domain that passkeys belong to; the default is the host of the issuer. Passkeys of
	// one domain are useless for another, so it must not change.
	RPID string `json:"rp_id,omitempty"`
	// RelatedOrigins are other origins that may use passkeys of RPID.
	RelatedOrigins []string `json:"related_origins,omitempty"`
	// UserVerification is UserVerificationRequired, the default, or UserVerificationPreferred.
	UserVerification string `json:"user_verification,omitempty"`
	// AttestationRoots is a PEM file with root certificates. If it is set, a new passkey needs an
	// attestation that leads to one of them.
	AttestationRoots string `json:"attestation_roots,omitempty"`
	// AAGUIDs are the models whose passkeys may be added; all, if it is empty.
	AAGUIDs []string `json:"aaguids,omitempty"`
}

// The values of Passkeys.UserVerification.
const (
	UserVerificationRequired  = "required"
	UserVerificationPreferred = "preferred"
)

func (c *Configuration) validatePasskeys(report reporter) {
	p := c.Passkeys
	oneOf(report, "passkeys.user_verification", p.UserVerification, UserVerificationRequired, UserVerificationPreferred)
	if p.RPID != "" {
		if err := passkey.CheckRPID(p.RPID); err != nil {
			report("passkeys.rp_id", "%v", err)
		}
	}
	for i, origin := range p.RelatedOrigins {
		u, err := url.Parse(origin)
		if err != nil || u.Scheme != "https" || u.Scheme+"://"+u.Host != origin || u.Host != strings.ToLower(u.Host) {
			report(fmt.Sprintf("passkeys.related_origins[%d]", i), "%q is not an origin such as https://login.example.de", origin)
		}
	}
	for i, aaguid := range p.AAGUIDs {
		if _, err := passkey.ParseAAGUID(aaguid); err != nil {
			report(fmt.Sprintf("passkeys.aaguids[%d]", i), "%v", err)
		}
	}
	issuer, err := url.Parse(c.Issuer)
	if err != nil || p.RPID != "" {
		return
	}
	if _, err := netip.ParseAddr(issuer.Hostname()); err == nil && (len(p.RelatedOrigins) > 0 || len(p.AAGUIDs) > 0 || p.AttestationRoots != "") {
		report("passkeys", "%v: use an issuer with a domain, such as localhost", passkey.ErrNoDomain)
	}
}

// RelyingParty returns what verifies passkeys; nil if there are none. secret is the key of challenges.
func (c *Configuration) RelyingParty(secret []byte) (*passkey.RelyingParty, error) {
	p := c.Passkeys
	if p.Off {
		return nil, nil
	}
	config := passkey.Config{
		Issuer: c.Issuer, Name: c.ServiceName, RPID: p.RPID, Secret: secret, AAGUIDs: p.AAGUIDs,
		OptionalUserVerification: p.UserVerification == UserVerificationPreferred,
	}
	if config.Name == "" {
		config.Name = "Valetkey"
	}
	if p.AttestationRoots != "" {
		certificates, err := os.ReadFile(p.AttestationRoots)
		if err != nil {
			return nil, fmt.Errorf("passkeys.attestation_roots: %w", err)
		}
		config.AttestationRoots = x509.NewCertPool()
		if !config.AttestationRoots.AppendCertsFromPEM(certificates) {
			return nil, fmt.Errorf("passkeys.attestation_roots: %s contains no certificate in PEM format", p.AttestationRoots)
		}
	}
	rp, err := passkey.New(config)
	if errors.Is(err, passkey.ErrNoDomain) {
		return nil, nil
	}
	return rp, err
}

package passkey

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/idna"
)

// Config configures a relying party.
type Config struct {
	// Issuer is the issuer identifier. The pages with the ceremonies are on its origin.
	Issuer string
	// Name of the service, which browsers show.
	Name string
	// RPID is the domain that passkeys belong to; "" means the host of the issuer.
	RPID string
	// OptionalUserVerification also accepts a passkey that was used without a PIN or biometrics. It
	// then is one factor, not two.
	OptionalUserVerification bool
	// Secret is the key of challenges, at least 32 bytes. All nodes need the same one.
	Secret []byte
	// AAGUIDs are the only models whose passkeys may be added, if any are listed. Without
	// AttestationRoots, a model is what the authenticator says.
	AAGUIDs []string
	// AttestationRoots require an attestation statement whose certificate leads to one of them.
	AttestationRoots *x509.CertPool
}

// RelyingParty verifies passkeys. Its methods are safe for concurrent use.
type RelyingParty struct {
	config Config
	origin string
	rpID   string
}

// ErrNoDomain means that the host of the issuer is an IP address, which passkeys cannot belong to.
var ErrNoDomain = errors.New("passkey: the host of the issuer is an IP address, and passkeys belong to domains")

// New returns a relying party. The error is ErrNoDomain if the issuer cannot have passkeys.
func New(config Config) (*RelyingParty, error) {
	issuer, err := url.Parse(config.Issuer)
	if err != nil || issuer.Host == "" {
		return nil, fmt.Errorf("passkey: the issuer %q is not a valid URL", config.Issuer)
	}
	rp := &RelyingParty{config: config, rpID: config.RPID}
	rp.origin, err = origin(issuer)
	if err != nil {
		return nil, fmt.Errorf("passkey: the issuer %q: %w", config.Issuer, err)
	}
	host := strings.ToLower(issuer.Hostname())
	if rp.rpID == "" {
		if _, err := netip.ParseAddr(host); err == nil {
			return nil, ErrNoDomain
		}
		if rp.rpID, err = idna.Lookup.ToASCII(host); err != nil {
			return nil, fmt.Errorf("passkey: the host of the issuer: %w", err)
		}
	}
	if err := CheckRPID(rp.rpID); err != nil {
		return nil, fmt.Errorf("passkey: %w", err)
	}
	if len(config.Secret) < 32 {
		return nil, errors.New("passkey: Config.Secret must have at least 32 bytes")
	}
	for _, aaguid := range config.AAGUIDs {
		if _, err := ParseAAGUID(aaguid); err != nil {
			return nil, fmt.Errorf("passkey: %w", err)
		}
	}
	return rp, nil
}

// origin returns the origin of a URL as browsers serialize it.
func origin(u *url.URL) (string, error) {
	host, err := idna.Lookup.ToASCII(strings.ToLower(u.Hostname()))
	if err != nil {
		if _, isAddress := netip.ParseAddr(u.Hostname()); isAddress != nil {
			return "", err
		}
		host = strings.ToLower(u.Host)
		return u.Scheme + "://" + host, nil
	}
	port := u.Port()
	if port == "" || port == "443" && u.Scheme == "https" || port == "80" && u.Scheme == "http" {
		return u.Scheme + "://" + host, nil
	}
	return u.Scheme + "://" + host + ":" + port, nil
}

// CheckRPID checks that a string is a domain as it can be an RP ID (WebAuthn Level 3, section 4).
func CheckRPID(id string) error {
	ascii, err := idna.Registration.ToASCII(id)
	if err != nil || ascii != id || strings.HasSuffix(id, ".") || len(id) > 253 || !strings.Contains(id, ".") && id != "localhost" {
		return fmt.Errorf("%q is not a domain in lower case, such as example.com", id)
	}
	if _, err := netip.ParseAddr(id); err == nil {
		return fmt.Errorf("%q is an IP address, and passkeys belong to domains", id)
	}
	return nil
}

// RPID returns the domain that the passkeys belong to.
func (rp *RelyingParty) RPID() string { return rp.rpID }

// RequiresAttestation reports whether passkeys of some models are refused.
func (rp *RelyingParty) RequiresAttestation() bool {
	return rp.config.AttestationRoots != nil || len(rp.config.AAGUIDs) > 0
}

// Timeout is how long a browser lets the user choose a passkey.
const Timeout = 4 * time.Minute

// Format keeps the key of challenges out of logs and messages.
func (rp *RelyingParty) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "[relying party %q]", rp.rpID) }

// LogValue keeps the key of challenges out of structured logs.
func (rp *RelyingParty) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(rp)) }

// Format keeps the key of challenges out of logs and messages.
func (c Config) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[configuration of passkeys]") }

// LogValue keeps the key of challenges out of structured logs.
func (c Config) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

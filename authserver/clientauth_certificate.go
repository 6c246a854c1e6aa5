package authserver

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/valetkey/valetkey/internal/distinguishedname"
	"github.com/valetkey/valetkey/oauth/jose"
)

// presentsNothing is for methods that a request does not show: only the client's registration
// distinguishes them from none.
func presentsNothing(*call) bool { return false }

// presentedCertificate returns the certificates of a client that authenticates with one.
func (c *call) presentedCertificate(cl *client) (*clientCertificates, error) {
	if cl == nil {
		return nil, errCredentials("no such client")
	}
	if !c.s.offersMutualTLS() {
		return nil, errCredentials("mutual_tls is not set, so no certificate is read")
	}
	presented, err := c.clientCertificate()
	if err != nil {
		return nil, err
	}
	if len(presented.chain) == 0 {
		return nil, errCredentials("the client presented no certificate")
	}
	c.credentials = "the certificate of " + clip(presented.chain[0].Subject.String())
	return presented, nil
}

// verifyTLSClient authenticates a client by the subject of its certificate (RFC 8705, section 2.1).
// The certificate must be valid now, and issued for client authentication by an authority that the
// operator trusts.
func verifyTLSClient(c *call, cl *client) error {
	presented, err := c.presentedCertificate(cl)
	if err != nil {
		return err
	}
	certificate := presented.chain[0]
	subjects := certificateSubjects(&cl.ClientMetadata)
	if len(subjects) != 1 {
		return errCredentials("the client is not registered with one subject")
	}
	if !subjects[0].matches(certificate, subjects[0].value) {
		return errCredentials("the certificate of " + clip(certificate.Subject.String()) + " does not have the client's " + subjects[0].member)
	}
	if err := c.verifyChain(presented); err != nil {
		return errCredentials("the certificate: " + err.Error())
	}
	return nil
}

// verifyChain verifies a chain (RFC 5280, section 6), unless the proxy has done it.
func (c *call) verifyChain(presented *clientCertificates) error {
	certificate, settings := presented.chain[0], c.s.config.MutualTLS
	if settings.VerifiedByProxy {
		switch {
		case !presented.forwarded:
			return errors.New("it was not passed by a proxy, and only the proxy verifies certificates")
		case c.now.Before(certificate.NotBefore) || c.now.After(certificate.NotAfter):
			return errors.New("it is not valid now") // a proxy may keep a connection open for long
		}
		return nil
	}
	if settings.CertificateAuthorities == nil { // x509 would use those of the system
		return errors.New("there are no certificate_authorities")
	}
	options := x509.VerifyOptions{
		Roots: settings.CertificateAuthorities, Intermediates: x509.NewCertPool(), CurrentTime: c.now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, intermediate := range presented.chain[1:] {
		options.Intermediates.AddCert(intermediate)
	}
	_, err := certificate.Verify(options)
	return err
}

// verifySelfSignedTLS authenticates a client by its certificate, which is in its jwks or jwks_uri
// (RFC 8705, section 2.2). The certificate is valid while it is registered: neither the chain nor the
// validity period is checked. If the certificate is unknown, the jwks_uri is fetched again, once.
func verifySelfSignedTLS(c *call, cl *client) error {
	presented, err := c.presentedCertificate(cl)
	if err != nil {
		return err
	}
	keys := cl.keys
	if cl.remoteKeys != nil {
		if keys, err = cl.remoteKeys.Get(c.r.Context(), false); err != nil {
			return errCredentials(err.Error())
		}
		if !keys.HasCertificate(presented.thumbprint) {
			if keys, err = cl.remoteKeys.Get(c.r.Context(), true); err != nil {
				return errCredentials(err.Error())
			}
		}
	}
	if !keys.HasCertificate(presented.thumbprint) {
		return errCredentials("no key of the client has the certificate in x5c")
	}
	return nil
}

func (c *clientCheck) registeredCertificates() {
	if len(c.JWKS) == 0 && c.JWKSURI == "" {
		c.report("", "self_signed_tls_client_auth needs jwks or jwks_uri")
	} else if keys, err := jose.ParseKeySet(c.JWKS); len(c.JWKS) > 0 && err == nil && !keys.HasCertificates() {
		c.report("jwks", "self_signed_tls_client_auth needs a key with the client's certificate in x5c (RFC 8705, section 2.2.2)")
	}
}

func checkSubjectDN(value string) error {
	_, err := distinguishedname.Parse(value)
	return err
}

func hasSubjectDN(certificate *x509.Certificate, value string) bool {
	want, err := distinguishedname.Parse(value)
	if err != nil {
		return false
	}
	got, err := distinguishedname.OfSubject(certificate.RawSubject)
	return err == nil && got.Equal(want)
}

func checkSANDNS(value string) error {
	if len(value) > 253 || strings.ContainsAny(value, "*/:@ \t") || strings.ContainsFunc(value, func(c rune) bool { return c < '!' || c > '~' }) {
		return errors.New("it is not a DNS name such as client.example.com; wildcards are not supported")
	}
	return nil
}

// hasSANDNS compares whole names: a wildcard in a certificate matches nothing.
func hasSANDNS(certificate *x509.Certificate, value string) bool {
	return slices.ContainsFunc(alternativeNames(certificate, tagDNS), func(name []byte) bool { return strings.EqualFold(string(name), value) })
}

func checkSANURI(value string) error {
	if u, err := url.Parse(value); err != nil || !u.IsAbs() {
		return errors.New("it is not an absolute URI")
	}
	return nil
}

func hasSANURI(certificate *x509.Certificate, value string) bool {
	return slices.ContainsFunc(alternativeNames(certificate, tagURI), func(name []byte) bool { return string(name) == value })
}

func checkSANIP(value string) error {
	if address, err := netip.ParseAddr(value); err != nil || address.Zone() != "" {
		return errors.New("it is not an IP address")
	}
	return nil
}

func hasSANIP(certificate *x509.Certificate, value string) bool {
	want, err := netip.ParseAddr(value)
	return err == nil && slices.ContainsFunc(alternativeNames(certificate, tagIP), func(name []byte) bool {
		got, ok := netip.AddrFromSlice(name)
		return ok && got == want
	})
}

func checkSANEmail(value string) error {
	if local, domain, found := strings.Cut(value, "@"); !found || local == "" || domain == "" || strings.ContainsAny(value, " \t\r\n<>") {
		return errors.New("it is not an email address")
	}
	return nil
}

// hasSANEmail compares the domain without case (RFC 5280, section 7.5).
func hasSANEmail(certificate *x509.Certificate, value string) bool {
	at := strings.LastIndexByte(value, '@')
	return slices.ContainsFunc(alternativeNames(certificate, tagEmail), func(name []byte) bool {
		i := strings.LastIndexByte(string(name), '@')
		return i >= 0 && at >= 0 && string(name[:i]) == value[:at] && strings.EqualFold(string(name[i:]), value[at:])
	})
}

// The tags of general names (RFC 5280, section 4.2.1.6).
const (
	tagEmail = 1
	tagDNS   = 2
	tagURI   = 6
	tagIP    = 7
)

// alternativeNames returns the subject alternative names of one type, unchanged. Package x509 parses
// URIs, and a URI may then be written differently.
func alternativeNames(certificate *x509.Certificate, tag int) (names [][]byte) {
	for _, extension := range certificate.Extensions {
		if !extension.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			continue
		}
		var all []asn1.RawValue
		if rest, err := asn1.Unmarshal(extension.Value, &all); err != nil || len(rest) > 0 {
			return nil
		}
		for _, name := range all {
			if name.Class == asn1.ClassContextSpecific && name.Tag == tag && !name.IsCompound {
				names = append(names, name.Bytes)
			}
		}
	}
	return names
}

// Package clientcertificate finds the certificate that a client presented in the TLS handshake
// of a request (RFC 8705). TLS is terminated either by the program itself or by a proxy that
// passes the certificate in a header.
//
// Anyone can send a header, so exactly one header is read, and only in requests whose
// connection comes from a trusted proxy; in all other requests it is ignored. The proxy must
// replace the header in every request that it forwards.
package clientcertificate

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"
)

// Format is how a header contains a certificate.
type Format string

const (
	// FormatRFC9440 is the header Client-Cert, with the other certificates of the chain in
	// Client-Cert-Chain (RFC 9440).
	FormatRFC9440 Format = "rfc9440"
	// FormatPEM is a certificate in PEM format, URL-encoded, such as nginx's variable
	// $ssl_client_escaped_cert. The certificate may be followed by others of its chain.
	FormatPEM Format = "pem"
	// FormatXFCC is Envoy's header X-Forwarded-Client-Cert, with Cert or Chain.
	FormatXFCC Format = "xfcc"
)

// The headers of the formats that define one.
const (
	HeaderClientCert      = "Client-Cert"       // RFC 9440, section 2.2
	HeaderClientCertChain = "Client-Cert-Chain" // RFC 9440, section 2.3
	HeaderXFCC            = "X-Forwarded-Client-Cert"
)

// Limits of what is parsed. A certificate of a client usually has less than two kilobytes.
const (
	maxHeaderBytes      = 24 << 10
	maxCertificateBytes = 8 << 10
	maxCertificates     = 6
	maxRSABits          = 8192 // the limit of crypto/tls
)

// Source says where the certificates of clients come from. A nil Source, and its zero value,
// uses the TLS connection only.
type Source struct {
	proxies []netip.Prefix
	header  string
	format  Format
}

// Behind returns a source for a program behind proxies that pass certificates in a header.
// proxies are the networks from which they connect. An empty format is that of a header that
// defines one, Client-Cert or X-Forwarded-Client-Cert.
//
// If a request comes from a proxy, only the header is used: the TLS connection has the
// certificate of the proxy. If it does not, only the TLS connection is used.
func Behind(proxies []netip.Prefix, header string, format Format) (*Source, error) {
	name := textproto.CanonicalMIMEHeaderKey(header)
	if format == "" {
		switch name {
		case HeaderClientCert:
			format = FormatRFC9440
		case HeaderXFCC:
			format = FormatXFCC
		default:
			return nil, fmt.Errorf("the header %s has no default format: set one of %s", header, formats())
		}
	}
	switch {
	case !isToken(header):
		return nil, fmt.Errorf("%q is not the name of a header", header)
	case slices.Contains(reserved, name):
		return nil, fmt.Errorf("the header %s is reserved for another purpose", header)
	case !slices.Contains([]Format{FormatRFC9440, FormatPEM, FormatXFCC}, format):
		return nil, fmt.Errorf("the format %q is not one of %s", format, formats())
	case format == FormatRFC9440 && name != HeaderClientCert, name == HeaderClientCert && format != FormatRFC9440:
		return nil, fmt.Errorf("the format %s is only for the header %s, which has no other format (RFC 9440, section 2.2)", FormatRFC9440, HeaderClientCert)
	case name == HeaderXFCC && format != FormatXFCC:
		return nil, fmt.Errorf("the header %s has the format %s", HeaderXFCC, FormatXFCC)
	case len(proxies) == 0:
		return nil, errors.New("no proxy is trusted to set the header")
	}
	for _, network := range proxies {
		if !network.IsValid() || network.Bits() == 0 {
			return nil, fmt.Errorf("the network %s contains every address: anyone could set the header", network)
		}
	}
	return &Source{proxies: slices.Clone(proxies), header: name, format: format}, nil
}

func formats() string {
	return strings.Join([]string{string(FormatRFC9440), string(FormatPEM), string(FormatXFCC)}, ", ")
}

// reserved are headers that clients send for other purposes.
var reserved = []string{
	"Authorization", "Cookie", "Content-Type", "Content-Length", "Dpop", "Forwarded", "Host", "Origin",
	"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", HeaderClientCertChain,
}

// isToken reports whether name is a token (RFC 9110, section 5.6.2). An underscore is refused,
// because some proxies drop such headers and others treat it like a hyphen.
func isToken(name string) bool {
	return name != "" && len(name) <= 64 && strings.IndexFunc(name, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-'
	}) < 0
}

// ErrHeader is wrapped by the errors about a header that a proxy should not have sent.
var ErrHeader = errors.New("the header with the client's certificate cannot be used")

// Certificates returns the certificates that the client presented: its own, then others of the
// chain that the client or the proxy sent. Without a certificate the result is nil. The proxy or
// crypto/tls has verified that the client has the private key. The chain has not been verified.
func (s *Source) Certificates(r *http.Request) ([]*x509.Certificate, error) {
	if !s.Forwarded(r) {
		if r.TLS == nil {
			return nil, nil
		}
		return r.TLS.PeerCertificates, nil
	}
	value, err := single(r.Header, s.header)
	if err != nil {
		return nil, err
	}
	chain := ""
	if s.format == FormatRFC9440 {
		if chain, err = single(r.Header, HeaderClientCertChain); err != nil {
			return nil, err
		}
	}
	if s.format == FormatRFC9440 && value == "::" {
		value = "" // what a template yields without a certificate
	}
	if value == "" {
		if chain != "" {
			return nil, fmt.Errorf("%w: %s without %s (RFC 9440, section 2.3)", ErrHeader, HeaderClientCertChain, HeaderClientCert)
		}
		return nil, nil
	}
	certificates, err := s.parse(value, chain)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrHeader, s.header, err)
	}
	return certificates, nil
}

func (s *Source) parse(value, chain string) ([]*x509.Certificate, error) {
	switch s.format {
	case FormatRFC9440:
		return parseRFC9440(value, chain)
	case FormatPEM:
		return parsePEM(value)
	default:
		return parseXFCC(value)
	}
}

// Forwarded reports whether the certificate of a request would come from a proxy instead of the
// TLS connection.
func (s *Source) Forwarded(r *http.Request) bool {
	if s == nil || s.header == "" {
		return false
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	address := peer.Addr().Unmap().WithZone("")
	return slices.ContainsFunc(s.proxies, func(network netip.Prefix) bool { return network.Contains(address) })
}

// single returns the value of a header; "" if there is none. If the header was sent twice, one
// of the two may be from the client.
func single(header http.Header, name string) (string, error) {
	values := header[name]
	switch {
	case len(values) == 0:
		return "", nil
	case len(values) > 1:
		return "", fmt.Errorf("%w: %s was sent %d times", ErrHeader, name, len(values))
	case len(values[0]) > maxHeaderBytes:
		return "", fmt.Errorf("%w: %s has more than %d bytes", ErrHeader, name, maxHeaderBytes)
	}
	return strings.Trim(values[0], " \t"), nil
}

// parseCertificate parses one certificate in DER.
func parseCertificate(der []byte) (*x509.Certificate, error) {
	if len(der) > maxCertificateBytes {
		return nil, fmt.Errorf("a certificate has more than %d bytes", maxCertificateBytes)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if key, ok := certificate.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > maxRSABits {
		return nil, fmt.Errorf("a certificate has an RSA key of more than %d bits", maxRSABits)
	}
	return certificate, nil
}

// Thumbprint returns the x5t#S256 of a certificate: the SHA-256 of its DER encoding in
// base64url (RFC 8705, section 3.1).
func Thumbprint(certificate *x509.Certificate) string {
	sum := sha256.Sum256(certificate.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

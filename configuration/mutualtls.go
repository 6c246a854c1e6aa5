package configuration

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/internal/clientaddress"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/clientcertificate"
)

// MutualTLS says where the certificates of clients come from, and who verifies them. TLS is
// terminated either by the server itself, at a second listener, or by one of the trusted proxies,
// which passes the certificate in a header.
type MutualTLS struct {
	// Listen is the address of the second listener, as host:port. It requests a certificate of
	// each client. TLS is its certificate; without it, that of the first listener is used.
	Listen string `json:"listen,omitempty"`
	TLS    *TLS   `json:"tls,omitempty"`
	// Host is the host of the mtls_endpoint_aliases (RFC 8705, section 5), with a port if it is not
	// 443. Without it, clients with certificates use the endpoints of the issuer.
	Host string `json:"host,omitempty"`
	// ClientCertificateHeader is the header in which the trusted_proxies pass the certificate:
	// Client-Cert (RFC 9440), X-Forwarded-Client-Cert (Envoy), or another one. The proxies must
	// replace it in every request.
	ClientCertificateHeader string `json:"client_certificate_header,omitempty"`
	// ClientCertificateFormat is rfc9440, xfcc or pem; pem is a URL-encoded PEM certificate. It is
	// only needed for other headers.
	ClientCertificateFormat string `json:"client_certificate_format,omitempty"`
	// CertificateAuthorities is a PEM file with the authorities that issue the certificates of
	// clients with tls_client_auth.
	CertificateAuthorities string `json:"certificate_authorities,omitempty"`
	// ProxyVerifiesCertificates says that the proxies accept certificates of these authorities only.
	// The server then verifies the subject and the validity period.
	ProxyVerifiesCertificates bool `json:"proxy_verifies_certificates,omitempty"`
}

// Certificate returns the certificate of the second listener, or nil if there is none.
// first is the certificate of the first listener.
func (m *MutualTLS) Certificate(first *TLS) *TLS {
	switch {
	case m == nil || m.Listen == "":
		return nil
	case m.TLS != nil:
		return m.TLS
	}
	return first
}

func (c *Configuration) validateMutualTLS(report reporter) {
	m := c.MutualTLS
	if m == nil {
		for i := range c.Clients {
			client := &c.Clients[i]
			switch {
			case client.TokenEndpointAuthMethod == oauth.AuthMethodTLSClient || client.TokenEndpointAuthMethod == oauth.AuthMethodSelfSignedTLS:
				report(fmt.Sprintf("clients[%d].token_endpoint_auth_method", i), "%s requires mutual_tls", client.TokenEndpointAuthMethod)
			case client.TLSClientCertificateBoundAccessTokens:
				report(fmt.Sprintf("clients[%d].tls_client_certificate_bound_access_tokens", i), "requires mutual_tls")
			}
		}
		return
	}
	switch {
	case m.Listen == "" && m.ClientCertificateHeader == "":
		report("mutual_tls", "set either listen, or client_certificate_header if a proxy terminates TLS")
	case m.Listen != "" && m.ClientCertificateHeader != "":
		report("mutual_tls.client_certificate_header", "cannot be used with listen: certificates come either from TLS or from a proxy")
	case m.Listen != "":
		m.validateListener(c, report)
	default:
		m.validateHeader(c, report)
	}
	if m.Host != "" {
		m.validateHost(c, report)
	}
	if m.ProxyVerifiesCertificates && m.CertificateAuthorities != "" {
		report("mutual_tls.certificate_authorities", "cannot be used with proxy_verifies_certificates: only one of the two verifies certificates")
	}
	for i := range c.Clients {
		if c.Clients[i].TokenEndpointAuthMethod == oauth.AuthMethodTLSClient && m.CertificateAuthorities == "" && !m.ProxyVerifiesCertificates {
			report(fmt.Sprintf("clients[%d].token_endpoint_auth_method", i), "%s requires mutual_tls.certificate_authorities, or proxy_verifies_certificates", oauth.AuthMethodTLSClient)
		}
	}
}

func (m *MutualTLS) validateListener(c *Configuration, report reporter) {
	if _, _, err := net.SplitHostPort(m.Listen); err != nil {
		report("mutual_tls.listen", "%q is not a valid address (for example, 0.0.0.0:8443)", m.Listen)
	} else if m.Listen == c.Listen {
		report("mutual_tls.listen", "this is the address of the first listener: use another port")
	}
	if files := m.Certificate(c.TLS); files == nil || files.Certificate == "" || files.Key == "" {
		report("mutual_tls.listen", "requires a certificate and key: set tls, or mutual_tls.tls")
	}
	if m.Host == "" {
		report("mutual_tls.host", "is required with listen: the host and port at which clients reach the second listener")
	}
	if m.ProxyVerifiesCertificates {
		report("mutual_tls.proxy_verifies_certificates", "cannot be used with listen: there is no proxy that verifies certificates")
	}
	if m.ClientCertificateFormat != "" {
		report("mutual_tls.client_certificate_format", "requires client_certificate_header")
	}
}

func (m *MutualTLS) validateHeader(c *Configuration, report reporter) {
	if m.TLS != nil {
		report("mutual_tls.tls", "requires listen")
	}
	if len(c.TrustedProxies) == 0 {
		report("mutual_tls.client_certificate_header", "requires trusted_proxies: only they may set the header")
		return
	}
	if _, err := m.source(c.TrustedProxies); err != nil {
		report("mutual_tls.client_certificate_header", "%v", err)
	}
}

func (m *MutualTLS) validateHost(c *Configuration, report reporter) {
	u, err := url.Parse("https://" + m.Host)
	if err != nil || u.Host != m.Host || u.Hostname() == "" || u.User != nil {
		report("mutual_tls.host", "%q is not a host, with or without a port (for example, mtls.example.com)", m.Host)
		return
	}
	if issuer, err := url.Parse(c.Issuer); err == nil && strings.EqualFold(issuer.Host, m.Host) {
		report("mutual_tls.host", "this is the host of the issuer: use another host or port, or remove the setting")
	}
}

// source returns the source of certificates behind proxies.
func (m *MutualTLS) source(trustedProxies []string) (*clientcertificate.Source, error) {
	networks, err := clientaddress.ParseNetworks(trustedProxies)
	if err != nil {
		return nil, err
	}
	return clientcertificate.Behind(networks, m.ClientCertificateHeader, clientcertificate.Format(m.ClientCertificateFormat))
}

// mutualTLS returns the engine's settings, nil if mutual TLS is not configured. A Go program may not
// have called the checks of a file.
func (c *Configuration) mutualTLS() (*authserver.MutualTLS, error) {
	m := c.MutualTLS
	if m == nil {
		return nil, nil
	}
	if err := collectProblems(c.validateMutualTLS); err != nil {
		return nil, err
	}
	engine := &authserver.MutualTLS{Host: m.Host, VerifiedByProxy: m.ProxyVerifiesCertificates}
	if m.ClientCertificateHeader != "" {
		var err error
		if engine.Source, err = m.source(c.TrustedProxies); err != nil {
			return nil, fmt.Errorf("mutual_tls.client_certificate_header: %w", err)
		}
	}
	if m.CertificateAuthorities == "" {
		return engine, nil
	}
	authorities, err := os.ReadFile(m.CertificateAuthorities)
	if err != nil {
		return nil, fmt.Errorf("read mutual_tls.certificate_authorities: %w", err)
	}
	engine.CertificateAuthorities = x509.NewCertPool()
	if !engine.CertificateAuthorities.AppendCertsFromPEM(authorities) {
		return nil, errors.New("mutual_tls.certificate_authorities: " + m.CertificateAuthorities + " contains no certificate in PEM format")
	}
	return engine, nil
}

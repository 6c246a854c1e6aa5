package client

import (
	"crypto/tls"
	"errors"
	"net/http"
)

// useCertificate makes the client present its certificate, and replaces endpoints with their
// mtls_endpoint_aliases (RFC 8705, section 5).
func (c *Client) useCertificate() error {
	if c.config.Certificate == nil {
		return nil
	}
	if len(c.config.Certificate.Certificate) == 0 || c.config.Certificate.PrivateKey == nil {
		return errors.New("client: Certificate has no certificate or no private key")
	}
	presenting, err := withCertificate(c.config.HTTPClient, c.config.Certificate)
	if err != nil {
		return err
	}
	c.config.HTTPClient = presenting
	c.aliases = map[string]string{}
	for name, address := range c.metadata.Endpoints() {
		if alias, ok := c.metadata.MTLSEndpointAliases[name]; ok {
			c.aliases[address] = alias
		}
	}
	return nil
}

// endpoint returns the URL to which requests for an endpoint of the metadata are sent.
func (c *Client) endpoint(address string) string {
	if alias, ok := c.aliases[address]; ok {
		return alias
	}
	return address
}

// withCertificate returns a copy of given that presents a certificate to each server that requests
// one.
func withCertificate(given *http.Client, certificate *tls.Certificate) (*http.Client, error) {
	var copied http.Client
	if given != nil {
		copied = *given
	}
	base := copied.Transport
	if base == nil {
		base = http.DefaultTransport
	}
	original, ok := base.(*http.Transport)
	if !ok {
		return nil, errors.New("client: Certificate requires that the Transport of HTTPClient is an *http.Transport; other transports must present the certificate themselves")
	}
	transport := original.Clone()
	if transport.TLSClientConfig == nil {
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	// Certificates would be compared with the authorities that the server lists, which do not
	// include those of self-signed certificates.
	transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return certificate, nil
	}
	copied.Transport = transport
	return &copied, nil
}

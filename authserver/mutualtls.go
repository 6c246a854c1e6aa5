package authserver

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/clientcertificate"
)

// MutualTLS says how clients use certificates: to authenticate, and to bind their tokens to
// (RFC 8705).
type MutualTLS struct {
	// Source says where certificates come from; nil means the TLS connection.
	Source *clientcertificate.Source
	// CertificateAuthorities issue the certificates of clients that authenticate with
	// tls_client_auth. A client is identified by its subject, so list only authorities that check the
	// subject (RFC 8705, section 7.4). Without them the method is not offered.
	CertificateAuthorities *x509.CertPool
	// VerifiedByProxy says that the proxies of Source have verified the chain of each certificate
	// that they pass. It replaces CertificateAuthorities.
	VerifiedByProxy bool
	// Host is the host, with a port if it is not 443, at which the endpoints request certificates:
	// the mtls_endpoint_aliases. Certificates at another host are ignored: its proxy may pass on a
	// header that the client sent. If Host is "", the endpoints themselves request certificates.
	Host string
}

// check reports why the settings cannot be used.
func (m *MutualTLS) check() error {
	switch {
	case m == nil:
	case m.VerifiedByProxy && m.CertificateAuthorities != nil:
		return errors.New("authserver: set either MutualTLS.CertificateAuthorities or VerifiedByProxy: only one of the two verifies certificates")
	case m.VerifiedByProxy && m.Source == nil:
		return errors.New("authserver: MutualTLS.VerifiedByProxy needs a Source with a proxy")
	case m.Host != "" && !isHost(m.Host):
		return fmt.Errorf("authserver: MutualTLS.Host: %q is not a host, with or without a port", m.Host)
	}
	return nil
}

func isHost(host string) bool {
	u, err := url.Parse("https://" + host)
	return err == nil && u.Host == host && u.Hostname() != "" && u.User == nil
}

// serves reports whether certificates are read in requests to a host.
func (m *MutualTLS) serves(host string) bool {
	return m.Host == "" || strings.EqualFold(strings.TrimSuffix(host, ":443"), strings.TrimSuffix(m.Host, ":443"))
}

func (s *Server) offersMutualTLS() bool { return s.config.MutualTLS != nil }

func (s *Server) offersTLSClientAuth() bool {
	m := s.config.MutualTLS
	return m != nil && (m.VerifiedByProxy || m.CertificateAuthorities != nil)
}

// callsDirectly reports whether clients send requests to an endpoint directly, without a browser,
// and may use a certificate.
func (e *endpoint) callsDirectly() bool {
	return !e.page && e.cors != corsAny && slices.Contains(e.methods, http.MethodPost)
}

// HandlesMutualTLS reports whether path is an endpoint at MutualTLS.Host.
func (s *Server) HandlesMutualTLS(path string) bool {
	e, ok := s.routes[path]
	return ok && s.offersMutualTLS() && e.callsDirectly()
}

// mutualTLSAliases returns the mtls_endpoint_aliases (RFC 8705, section 5).
func (s *Server) mutualTLSAliases() map[string]string {
	if !s.offersMutualTLS() || s.config.MutualTLS.Host == "" {
		return nil
	}
	var aliases oauth.ServerMetadata
	for _, e := range s.endpoints() {
		if e.metadata != nil && e.callsDirectly() {
			e.metadata(&aliases, "https://"+s.config.MutualTLS.Host+s.basePath+e.path)
		}
	}
	return aliases.Endpoints()
}

var (
	ruleCertificateHeader = rule{
		must:    "the header in which the proxy passes the client certificate is well-formed and unique",
		section: "RFC 9440, section 4", code: oauth.InvalidRequest,
		says: "the client certificate that the proxy passed cannot be read",
		fix:  "check the header and its format in mutual_tls, and that the proxy replaces the header",
	}
	ruleCertificatePresented = rule{
		must:    "a client whose access tokens are bound to a certificate presents it",
		section: "RFC 8705, section 3", code: oauth.InvalidRequest,
		says: "the client's access tokens are bound to a certificate, and the request has none",
		fix:  "send the request to the mtls_endpoint_aliases with the client certificate",
	}
)

// clientCertificates are the certificates that a client presented, its own first.
type clientCertificates struct {
	chain      []*x509.Certificate
	forwarded  bool // by a proxy
	thumbprint string
}

// clientCertificate returns the certificates that the client presented; without one, the chain is
// empty.
func (c *call) clientCertificate() (*clientCertificates, error) {
	if c.certificates != nil {
		return c.certificates, nil
	}
	read := &clientCertificates{}
	if m := c.s.config.MutualTLS; m != nil && m.serves(c.r.Host) {
		chain, err := m.Source.Certificates(c.r)
		if err != nil {
			return nil, c.because(&ruleCertificateHeader, err)
		}
		read.chain, read.forwarded = chain, m.Source.Forwarded(c.r)
		if len(chain) > 0 {
			read.thumbprint = clientcertificate.Thumbprint(chain[0])
		}
	}
	c.certificates = read
	return read, nil
}

// readCertificate adds the client's certificate to what the request proves.
func (c *call) readCertificate() error {
	if c.s.config.MutualTLS == nil {
		return nil
	}
	presented, err := c.clientCertificate()
	if err != nil {
		return err
	}
	c.proven.CertificateThumbprint = presented.thumbprint
	return nil
}

// proveCertificate is called before tokens are issued. A client that is registered for bound tokens
// gets no others.
func (c *call) proveCertificate() error {
	if err := c.readCertificate(); err != nil {
		return err
	}
	if !c.client.TLSClientCertificateBoundAccessTokens {
		return nil
	}
	return c.must(c.proven.CertificateThumbprint != "", &ruleCertificatePresented)
}

// mutualTLS checks the client metadata of RFC 8705.
func (c *clientCheck) mutualTLS() {
	if c.TokenEndpointAuthMethod != oauth.AuthMethodTLSClient {
		for _, subject := range certificateSubjects(&c.ClientMetadata) {
			c.report(subject.member, "requires token_endpoint_auth_method %s", oauth.AuthMethodTLSClient)
		}
	}
	if !c.TLSClientCertificateBoundAccessTokens {
		return
	}
	for _, name := range c.ResponseTypes {
		if t, _ := oauth.ParseResponseType(name); t.Token {
			c.report("tls_client_certificate_bound_access_tokens", "the response type %q sends access tokens through the browser, which cannot be bound to a certificate (RFC 8705, section 6.4)", name)
		}
	}
}

// certificateSubject is the subject that the certificate of a client must have.
type certificateSubject struct {
	member, value string
	// check reports why value cannot be a subject.
	check func(value string) error
	// matches reports whether a certificate has the subject.
	matches func(certificate *x509.Certificate, value string) bool
}

// certificateSubjects returns the subjects in a client's metadata. There must be one.
func certificateSubjects(m *oauth.ClientMetadata) []certificateSubject {
	return slices.DeleteFunc([]certificateSubject{
		{"tls_client_auth_subject_dn", m.TLSClientAuthSubjectDN, checkSubjectDN, hasSubjectDN},
		{"tls_client_auth_san_dns", m.TLSClientAuthSANDNS, checkSANDNS, hasSANDNS},
		{"tls_client_auth_san_uri", m.TLSClientAuthSANURI, checkSANURI, hasSANURI},
		{"tls_client_auth_san_ip", m.TLSClientAuthSANIP, checkSANIP, hasSANIP},
		{"tls_client_auth_san_email", m.TLSClientAuthSANEmail, checkSANEmail, hasSANEmail},
	}, func(s certificateSubject) bool { return s.value == "" })
}

func (c *clientCheck) certificateSubject() {
	subjects := certificateSubjects(&c.ClientMetadata)
	if len(subjects) != 1 {
		var members []string
		for _, s := range subjects {
			members = append(members, s.member)
		}
		if members == nil {
			c.report("", "tls_client_auth needs the subject of the certificate: tls_client_auth_subject_dn, or one of tls_client_auth_san_dns, _uri, _ip and _email (RFC 8705, section 2.1.2)")
		} else {
			c.report(members[1], "the certificate must have exactly one subject, got %s (RFC 8705, section 2.1.2)", strings.Join(members, ", "))
		}
		return
	}
	if err := subjects[0].check(subjects[0].value); err != nil {
		c.report(subjects[0].member, "%v", err)
	}
}

package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

// expiresSoon is when an operator should renew a certificate. Automatic renewal happens earlier.
const expiresSoon = 14 * 24 * time.Hour

// address returns where connections to the issuer go.
func (r *run) address() string {
	if r.options.ConnectTo != "" {
		return r.options.ConnectTo
	}
	return addressOf(r.issuer)
}

// addressOf returns the host and port of a URL.
func addressOf(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// checkTLS verifies the certificate as a browser does, and says which part of it is wrong.
func (r *run) checkTLS(ctx context.Context) string {
	if r.issuer.Scheme != "https" {
		return "the issuer is http"
	}
	state, err := r.handshake(ctx, tls.VersionTLS12, 0)
	var refused *net.OpError
	switch {
	case err == nil:
	case errors.As(err, &refused) && refused.Op == "dial":
		return "nothing listens there"
	default:
		r.find("tls.handshake_failed", "%s: %v", r.address(), err)
		return ""
	}
	r.judgeChain(state.PeerCertificates)
	if old, err := r.handshake(ctx, tls.VersionTLS10, tls.VersionTLS11); err == nil {
		r.find("tls.old_version", "the server accepts %s", tls.VersionName(old.Version))
	}
	return ""
}

func (r *run) handshake(ctx context.Context, least, most uint16) (tls.ConnectionState, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	dialer := &tls.Dialer{Config: &tls.Config{
		ServerName: r.issuer.Hostname(), MinVersion: least, MaxVersion: most,
		InsecureSkipVerify: true, // judgeChain verifies
	}}
	conn, err := dialer.DialContext(ctx, "tcp", r.address())
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState(), nil
}

func (r *run) judgeChain(chain []*x509.Certificate) {
	now, leaf := r.options.Now(), chain[0]
	when := func(t time.Time) string { return t.UTC().Format("2 January 2006 15:04 MST") }
	for _, c := range chain {
		switch {
		case now.After(c.NotAfter):
			r.find("tls.expired", "the certificate of %q expired on %s", c.Subject, when(c.NotAfter))
		case now.Before(c.NotBefore):
			r.find("tls.not_yet_valid", "the certificate of %q is valid from %s", c.Subject, when(c.NotBefore))
		case c.NotAfter.Sub(now) < expiresSoon && c.NotAfter.Sub(c.NotBefore) > 2*expiresSoon:
			r.find("tls.expires_soon", "the certificate of %q expires on %s", c.Subject, when(c.NotAfter))
		}
	}
	if err := leaf.VerifyHostname(r.issuer.Hostname()); err != nil {
		r.find("tls.wrong_name", "the certificate is for %s, and the issuer's host is %s", names(leaf), r.issuer.Hostname())
	}
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	// The dates were checked above, so this is about a time at which the leaf is valid.
	at := now
	if at.After(leaf.NotAfter) {
		at = leaf.NotAfter
	} else if at.Before(leaf.NotBefore) {
		at = leaf.NotBefore
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: r.options.Roots, Intermediates: intermediates, CurrentTime: at})
	var invalid x509.CertificateInvalidError
	if err == nil || errors.As(err, &invalid) && invalid.Reason == x509.Expired && r.found("tls.expired", "tls.not_yet_valid") {
		return
	}
	last := chain[len(chain)-1]
	switch selfSigned := last.CheckSignatureFrom(last) == nil || last.Subject.String() == last.Issuer.String(); {
	case selfSigned:
		r.find("tls.untrusted", "the chain ends with %q, which is not a certificate authority that this machine trusts", last.Subject)
	case errors.As(err, new(x509.UnknownAuthorityError)):
		r.find("tls.incomplete_chain", "the server sends %s; the last one was issued by %q, which is neither sent nor known here", certificates(len(chain)), last.Issuer)
	default:
		r.find("tls.untrusted", "%v", err)
	}
}

func certificates(n int) string {
	if n == 1 {
		return "1 certificate"
	}
	return fmt.Sprintf("%d certificates", n)
}

func names(c *x509.Certificate) string {
	all := append([]string(nil), c.DNSNames...)
	for _, address := range c.IPAddresses {
		all = append(all, address.String())
	}
	if len(all) == 0 {
		return "no name"
	}
	return strings.Join(all, ", ")
}

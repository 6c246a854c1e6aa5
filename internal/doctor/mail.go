package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
)

// checkMail connects to the mail server and authenticates. It sends no message.
func (r *run) checkMail(ctx context.Context) string {
	c := r.options.Configuration
	if c == nil {
		return noConfiguration
	}
	if c.Mail == nil || c.Mail.SMTP == nil {
		if r.issuer.Scheme == "https" {
			r.find("mail.none", "the configuration has no mail.smtp")
			return ""
		}
		return "there is no mail server; messages are written to the log"
	}
	server, err := c.Mail.Server(&c.Outgoing)
	if err != nil {
		r.find("files.unusable", "%v", err)
		return ""
	}
	if c.Mail.SMTP.InsecureWithoutTLS {
		r.find("mail.not_encrypted", "mail.smtp.insecure_without_tls is set")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*requestTime)
	defer cancel()
	if err := server.Check(ctx); err != nil {
		r.find(mailFinding(err), "%v", err)
	}
	return ""
}

// mailFinding returns the name of the finding for an error of mail.SMTP.Check.
func mailFinding(err error) string {
	var operation *net.OpError
	switch {
	case errors.As(err, new(*tls.CertificateVerificationError)), errors.As(err, new(x509.UnknownAuthorityError)),
		errors.As(err, new(x509.HostnameError)), errors.As(err, new(x509.CertificateInvalidError)):
		return "mail.certificate"
	case strings.Contains(err.Error(), "STARTTLS"):
		return "mail.no_starttls"
	case strings.Contains(err.Error(), "AUTH") || strings.Contains(err.Error(), "535"):
		return "mail.authentication"
	case errors.As(err, &operation):
		return "mail.unreachable"
	}
	return "mail.refused"
}

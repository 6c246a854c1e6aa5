package configuration

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/valetkey/valetkey/mail"
	"github.com/valetkey/valetkey/oauth"
)

// Mail says how messages to users are sent.
type Mail struct {
	// From is the sender, such as "Example <login@example.com>".
	From string `json:"from"`
	SMTP *SMTP  `json:"smtp"`
	// Templates is a directory with templates that replace the built-in ones.
	Templates string `json:"templates,omitempty"`
}

// SMTP is the mail server that accepts messages for all recipients.
type SMTP struct {
	Host string `json:"host"`
	// Port is 587 by default, and 465 with implicit TLS.
	Port int `json:"port,omitempty"`
	// TLS is TLSStart, which is the default outside of loopback, or TLSImplicit.
	TLS string `json:"tls,omitempty"`
	// InsecureWithoutTLS sends messages and the password without encryption. On loopback, this is
	// the default.
	InsecureWithoutTLS bool   `json:"insecure_without_tls,omitempty"`
	Username           string `json:"username,omitempty"`
	PasswordFile       string `json:"password_file,omitempty"`
}

// The values of SMTP.TLS.
const (
	TLSStart    = "starttls"
	TLSImplicit = "implicit"
)

// The values of Configuration.PasswordReset. The default is PasswordResetMail if messages can be
// sent.
const (
	PasswordResetMail = "mail"
	PasswordResetOff  = "off"
)

// The values of Configuration.AccountDeletion. The default is AccountDeletionOn.
const (
	AccountDeletionOn  = "on"
	AccountDeletionOff = "off"
)

// The values of Configuration.SignUpRequires.
const (
	SignUpInvitation  = "invitation"
	SignUpEmailDomain = "email_domain"
)

func (c *Configuration) validateMail(report reporter) {
	oneOf(report, "account_deletion", c.AccountDeletion, AccountDeletionOn, AccountDeletionOff)
	oneOf(report, "password_reset", c.PasswordReset, PasswordResetMail, PasswordResetOff)
	oneOf(report, "sign_up_requires", c.SignUpRequires, SignUpInvitation, SignUpEmailDomain)
	if c.SignUpRequires != "" && !c.SignUp {
		report("sign_up_requires", "requires sign_up: true")
	}
	if (c.SignUpRequires == SignUpEmailDomain) != (len(c.SignUpEmailDomains) > 0) {
		report("sign_up_email_domains", "is required with sign_up_requires: %s, and allowed only there", SignUpEmailDomain)
	}
	for i, domain := range c.SignUpEmailDomains {
		if address, err := mail.ParseAddress("name@" + domain); err != nil || mail.Domain(address) != domain {
			report(fmt.Sprintf("sign_up_email_domains[%d]", i), "%q is not a valid domain: use one in lower case, such as example.com", domain)
		}
	}
	if c.Mail == nil {
		return
	}
	if _, err := mail.ParseFrom(c.Mail.From); err != nil {
		report("mail.from", "%v", err)
	}
	s := c.Mail.SMTP
	if s == nil || s.Host == "" || strings.ContainsAny(s.Host, ":/ ") && !strings.HasPrefix(s.Host, "::") {
		report("mail.smtp", "host is required: the name of a mail server, without a port")
		return
	}
	oneOf(report, "mail.smtp.tls", s.TLS, TLSStart, TLSImplicit)
	if s.InsecureWithoutTLS && s.TLS != "" {
		report("mail.smtp.insecure_without_tls", "set either this or tls, not both")
	}
	if s.Port < 0 || s.Port > 65535 {
		report("mail.smtp.port", "%d is not a valid port", s.Port)
	}
	if (s.Username == "") != (s.PasswordFile == "") {
		report("mail.smtp", "set both username and password_file, or neither")
	}
}

// CheckMail reports features that need mail and cannot have it: an https issuer sends messages only
// through a mail server. An http issuer, which is allowed only on loopback, writes them to the log.
func (c *Configuration) CheckMail() error {
	if c.CanMail() {
		return nil
	}
	var problems []error
	need := func(feature string) {
		problems = append(problems, fmt.Errorf("%s needs mail: set mail.smtp, or remove this setting", feature))
	}
	if c.PasswordReset == PasswordResetMail {
		need("password_reset: " + PasswordResetMail)
	}
	if c.SignUpRequires == SignUpEmailDomain {
		need("sign_up_requires: " + SignUpEmailDomain)
	}
	if c.Recovery.MailDelay > 0 {
		need("recovery.mail_delay")
	}
	if c.EmailSignIn {
		need("email_sign_in: true")
	}
	return errors.Join(problems...)
}

// CanMail reports whether messages can be sent.
func (c *Configuration) CanMail() bool {
	return c.Mail != nil || strings.HasPrefix(c.Issuer, "http://")
}

// Server returns the mail server. It reads the files that the configuration names.
func (m *Mail) Server(outgoing *Outgoing) (*mail.SMTP, error) {
	s := m.SMTP
	server := &mail.SMTP{
		Host: s.Host, Port: s.Port, Username: s.Username, ImplicitTLS: s.TLS == TLSImplicit,
		NoTLS: s.InsecureWithoutTLS || s.TLS == "" && oauth.IsLoopbackHost(s.Host),
	}
	if s.PasswordFile != "" {
		var err error
		if server.Password, err = readSecretFile(s.PasswordFile); err != nil {
			return nil, fmt.Errorf("mail.smtp.password_file: %w", err)
		}
	}
	if file := outgoing.CertificateAuthorities; file != "" {
		certificates, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("outgoing.certificate_authorities: %w", err)
		}
		server.CertificateAuthorities = x509.NewCertPool()
		if !server.CertificateAuthorities.AppendCertsFromPEM(certificates) {
			return nil, fmt.Errorf("outgoing.certificate_authorities: %s contains no certificate in PEM format", file)
		}
	}
	return server, nil
}

// AllowsEmailDomain reports whether users with a verified address in a domain may sign up.
func (c *Configuration) AllowsEmailDomain(domain string) bool {
	return slices.Contains(c.SignUpEmailDomains, domain)
}

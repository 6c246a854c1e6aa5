package mail

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	netmail "net/mail"
	"regexp"
	"strings"

	gomail "github.com/wneessen/go-mail"
)

// SMTP is a mail server that accepts messages for all recipients.
type SMTP struct {
	Host string
	// Port is 587 if it is zero, or 465 with ImplicitTLS.
	Port int
	// ImplicitTLS starts with TLS (RFC 8314, section 3). Otherwise, STARTTLS is required.
	ImplicitTLS bool
	// NoTLS sends messages, and the password, in plain text.
	NoTLS bool
	// Username and Password authenticate the server to the mail server; "" if that is not
	// necessary.
	Username, Password string
	// CertificateAuthorities replace those of the system; nil means the system's.
	CertificateAuthorities *x509.CertPool
}

// Format keeps the password out of logs and messages.
func (s SMTP) Format(f fmt.State, _ rune) { fmt.Fprint(f, "[mail server]") }

// LogValue keeps the password out of structured logs.
func (s SMTP) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(s)) }

// ParseFrom checks a sender, such as "Example <login@example.com>", and returns it with the
// domain in ASCII.
func ParseFrom(s string) (string, error) {
	parsed, err := netmail.ParseAddress(s)
	if err != nil {
		return "", errors.New("use an address, such as Example <login@example.com>")
	}
	address, err := forSMTP(parsed.Address)
	if err != nil {
		return "", err
	}
	return (&netmail.Address{Name: oneLine(parsed.Name), Address: address}).String(), nil
}

// Deliver passes a letter to the mail server.
func (s *SMTP) Deliver(ctx context.Context, letter *Letter) error {
	message, err := compose(letter)
	if err != nil {
		return &PermanentError{err}
	}
	client, err := s.client()
	if err != nil {
		return fmt.Errorf("mail server: %w", err)
	}
	err = client.DialAndSendWithContext(ctx, message)
	// Once the mail server has accepted the message, what happens to the connection does not matter.
	// Another attempt would send the message twice.
	if err == nil || message.IsDelivered() {
		return nil
	}
	err = &deliveryError{fmt.Errorf("send through %s: %w", s.Host, err), message.GetToString()}
	// 5xx responses to this message are final. Those to the greeting or the authentication are
	// the operator's to solve, and the message waits for that.
	if refused, ok := errors.AsType[*gomail.SendError](err); ok && refused.ErrorCode() >= 500 {
		switch refused.Reason {
		case gomail.ErrSMTPRcptTo, gomail.ErrSMTPData, gomail.ErrSMTPDataClose:
			return &PermanentError{err}
		}
	}
	return err
}

// deliveryError is the error of a delivery without the addresses of its recipients, which mail servers and the
// library put into their texts. Errors of deliveries are logged.
type deliveryError struct {
	cause      error
	recipients []string
}

func (e *deliveryError) Error() string {
	text, _, _ := strings.Cut(e.cause.Error(), ", affected recipient(s): ")
	for _, recipient := range e.recipients {
		address := regexp.MustCompile(`(?i)<?` + regexp.QuoteMeta(strings.Trim(recipient, "<>")) + `>?`)
		text = address.ReplaceAllString(text, "the recipient")
	}
	return text
}

func (e *deliveryError) Unwrap() error { return e.cause }

func (s *SMTP) client() (*gomail.Client, error) {
	options := []gomail.Option{
		gomail.WithTimeout(sendTimeout / 3),
		gomail.WithTLSConfig(&tls.Config{ServerName: s.Host, MinVersion: tls.VersionTLS12, RootCAs: s.CertificateAuthorities}),
		gomail.WithTLSPolicy(gomail.TLSMandatory),
		gomail.WithoutNoop(),
	}
	port := 587
	switch {
	case s.NoTLS:
		options = append(options, gomail.WithTLSPolicy(gomail.NoTLS))
	case s.ImplicitTLS:
		options, port = append(options, gomail.WithSSL()), 465
	}
	options = append(options, gomail.WithPort(cmp.Or(s.Port, port)))
	if s.Username != "" {
		method := gomail.SMTPAuthAutoDiscover
		if s.NoTLS {
			method = gomail.SMTPAuthPlainNoEnc
		}
		options = append(options, gomail.WithSMTPAuth(method), gomail.WithUsername(s.Username), gomail.WithPassword(s.Password))
	}
	return gomail.NewClient(s.Host, options...)
}

// compose returns the message of a letter (RFC 5322).
func compose(letter *Letter) (*gomail.Msg, error) {
	message := gomail.NewMsg()
	if err := message.From(letter.From); err != nil {
		return nil, fmt.Errorf("sender: %w", err)
	}
	if err := message.To(letter.To); err != nil {
		return nil, errors.New("the address of the recipient is not valid")
	}
	message.Subject(oneLine(letter.Subject))
	message.SetDateWithValue(letter.Date)
	message.SetMessageIDWithValue(letter.ID + "@" + Domain(strings.TrimSuffix(letter.From, ">")))
	// No out-of-office reply is sent to it (RFC 3834, section 5).
	message.SetGenHeader("Auto-Submitted", "auto-generated")
	message.SetBodyString(gomail.TypeTextPlain, letter.Text)
	message.AddAlternativeString(gomail.TypeTextHTML, letter.HTML)
	return message, nil
}

// Check connects to the mail server, encrypts the connection and authenticates, as before a message,
// and sends none.
func (s *SMTP) Check(ctx context.Context) error {
	client, err := s.client()
	if err != nil {
		return fmt.Errorf("mail server: %w", err)
	}
	if err := client.DialWithContext(ctx); err != nil {
		return fmt.Errorf("connect to %s: %w", s.Host, err)
	}
	if err := client.Close(); err != nil {
		return fmt.Errorf("disconnect from %s: %w", s.Host, err)
	}
	return nil
}

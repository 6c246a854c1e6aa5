// Package mailtest is a mail server for tests: it accepts messages over SMTP, with TLS and
// authentication, and hands them to the test.
package mailtest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// The credentials that Server.RequireAuth requires.
const (
	Username = "login"
	Password = "the password of the mail server"
)

// Message is a message that the server has accepted.
type Message struct {
	// From and To are those of the envelope, Header those of the message.
	From, To string
	Header   netmail.Header
	// Text and HTML are the decoded parts.
	Text, HTML string
	// TLS and Authenticated say how the message arrived.
	TLS, Authenticated bool
}

// Subject returns the decoded subject.
func (m *Message) Subject() string {
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil {
		return ""
	}
	return subject
}

// Server is a mail server on a loopback port.
type Server struct {
	Host string
	Port int
	// CertificateAuthority is a PEM file with the authority of the server's certificate, and
	// Authorities contains it.
	CertificateAuthority string
	Authorities          *x509.CertPool

	t        testing.TB
	smtp     *smtp.Server
	received chan *Message
	mu       sync.Mutex
	refuse   []error
	auth     bool
	hangUp   bool
}

// Options choose how the server behaves.
type Options struct {
	// ImplicitTLS starts with TLS. NoTLS does not offer STARTTLS.
	ImplicitTLS, NoTLS bool
	// RequireAuth requires Username and Password.
	RequireAuth bool
	// HangUp closes the connection once a message is accepted.
	HangUp bool
}

// Start starts a server, which is stopped at the end of the test.
func Start(t testing.TB, options Options) *Server {
	t.Helper()
	s := &Server{Host: "localhost", t: t, received: make(chan *Message, 1000), auth: options.RequireAuth, hangUp: options.HangUp}
	certificate := s.certificate()
	s.smtp = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &session{server: s, conn: c}, nil }))
	s.smtp.Domain, s.smtp.ReadTimeout, s.smtp.WriteTimeout = "localhost", time.Minute, time.Minute
	s.smtp.AllowInsecureAuth, s.smtp.ErrorLog = true, quiet{}
	config := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Port = listener.Addr().(*net.TCPAddr).Port
	switch {
	case options.ImplicitTLS:
		listener = tls.NewListener(listener, config)
	case !options.NoTLS:
		s.smtp.TLSConfig = config
	}
	go s.smtp.Serve(listener)
	t.Cleanup(func() { s.smtp.Close() })
	return s
}

// Address returns the host and port of the server.
func (s *Server) Address() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// RefuseNext makes the server refuse the next recipients, one with each error; nil accepts one.
func (s *Server) RefuseNext(errs ...error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = append(s.refuse, errs...)
}

// Temporary and Permanent are responses of a mail server.
var (
	Temporary = &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "try again later"}
	Permanent = &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user here"}
)

// Received has the messages that the test did not read.
func (s *Server) Received() <-chan *Message { return s.received }

// Next waits for a message.
func (s *Server) Next() *Message {
	s.t.Helper()
	select {
	case m := <-s.received:
		return m
	case <-time.After(time.Minute):
		s.t.Fatal("no message has arrived")
		return nil
	}
}

// None reports an error if a message has arrived that the test did not read.
func (s *Server) None() {
	s.t.Helper()
	select {
	case m := <-s.received:
		s.t.Errorf("a message to %s has arrived: %s", m.To, m.Subject())
	default:
	}
}

func (s *Server) certificate() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail server of a test"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		s.t.Fatal(err)
	}
	encoded := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	s.Authorities = x509.NewCertPool()
	s.Authorities.AppendCertsFromPEM(encoded)
	s.CertificateAuthority = filepath.Join(s.t.TempDir(), "ca.pem")
	if err := os.WriteFile(s.CertificateAuthority, encoded, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

// session is one connection.
type session struct {
	server        *Server
	conn          *smtp.Conn
	from, to      string
	authenticated bool
	accepted      bool
}

// AuthMechanisms implements smtp.AuthSession.
func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }

// Auth implements smtp.AuthSession.
func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, username, password string) error {
		if username != Username || password != Password {
			return smtp.ErrAuthFailed
		}
		s.authenticated = true
		return nil
	}), nil
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if s.server.auth && !s.authenticated {
		return smtp.ErrAuthRequired
	}
	s.from = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = to
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	if len(s.server.refuse) > 0 {
		err := s.server.refuse[0]
		s.server.refuse = s.server.refuse[1:]
		return err
	}
	return nil
}

func (s *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	m, err := Parse(raw)
	if err != nil {
		s.server.t.Errorf("a message is malformed: %v", err)
		return err
	}
	_, m.TLS = s.conn.TLSConnectionState()
	m.From, m.To, m.Authenticated = s.from, s.to, s.authenticated
	s.server.received <- m
	s.accepted = true
	return nil
}

// Reset is called after the response to each message.
func (s *session) Reset() {
	s.from, s.to = "", ""
	if s.accepted && s.server.hangUp {
		s.conn.Conn().Close()
	}
}

func (s *session) Logout() error { return nil }

// Parse reads a message with two alternative parts.
func Parse(raw []byte) (*Message, error) {
	parsed, err := netmail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	m := &Message{Header: parsed.Header}
	mediaType, parameters, err := mime.ParseMediaType(parsed.Header.Get("Content-Type"))
	if err != nil || mediaType != "multipart/alternative" {
		return nil, errors.Join(errors.New("the message has the type "+mediaType), err)
	}
	for parts := multipart.NewReader(parsed.Body, parameters["boundary"]); ; {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return m, nil
		}
		if err != nil {
			return nil, err
		}
		var body io.Reader = part
		if strings.EqualFold(part.Header.Get("Content-Transfer-Encoding"), "quoted-printable") {
			body = quotedprintable.NewReader(part)
		}
		content, err := io.ReadAll(body)
		if err != nil {
			return nil, err
		}
		switch partType, _, _ := mime.ParseMediaType(part.Header.Get("Content-Type")); partType {
		case "text/plain":
			m.Text = strings.ReplaceAll(string(content), "\r\n", "\n")
		case "text/html":
			m.HTML = strings.ReplaceAll(string(content), "\r\n", "\n")
		}
	}
}

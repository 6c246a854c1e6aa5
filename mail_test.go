package valetkey

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/mailtest"
	"github.com/valetkey/valetkey/mail"
)

// mailConfig returns the configuration of an https issuer with a mail server.
func mailConfig(t *testing.T, server *mailtest.Server) Config {
	t.Helper()
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(mailtest.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := Config{Logger: slog.New(slog.DiscardHandler)}
	config.Issuer, config.Database, config.ServiceName = "https://login.example.com", "sqlite::memory:", "Example"
	config.Mail = &configuration.Mail{From: "Example <login@example.com>", SMTP: &configuration.SMTP{
		Host: server.Host, Port: server.Port, TLS: configuration.TLSStart, Username: mailtest.Username, PasswordFile: password,
	}}
	config.Outgoing.CertificateAuthorities = server.CertificateAuthority
	config.Declarations = declarations(t, "users: [{username: ada, password: engine no. 1, email: ada@example.com, email_verified: true}]\n")
	return config
}

func ask(t *testing.T, s *Server, method, target string, form url.Values) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, s.config.Issuer+target, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	response := httptest.NewRecorder()
	s.ServeHTTP(response, r)
	return response
}

// A server with an https issuer sends a message through its mail server, over TLS and with the
// password from a file, with the service and the origin of the configuration.
func TestServerSendsMail(t *testing.T) {
	receiver := mailtest.Start(t, mailtest.Options{RequireAuth: true})
	config := mailConfig(t, receiver)
	if err := config.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	server, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	if response := ask(t, server, http.MethodPost, "/forgot", url.Values{"identifier": {"ada"}}); response.Code != http.StatusSeeOther {
		t.Fatalf("%d: %s", response.Code, response.Body)
	}
	m := receiver.Next()
	if !m.TLS || !m.Authenticated || !strings.Contains(m.Text, "your account at Example") || !strings.Contains(m.Text, "\nhttps://login.example.com/reset?token=") {
		t.Errorf("the message is %+v", m)
	}
}

// A message that was not delivered before the server stopped is delivered after a start.
func TestMailSurvivesARestart(t *testing.T) {
	t.Setenv("VALETKEY_MASTER_KEY", strings.Repeat("A", 43))
	receiver := mailtest.Start(t, mailtest.Options{RequireAuth: true})
	config := mailConfig(t, receiver)
	config.Database = "sqlite:" + filepath.Join(t.TempDir(), "v.db")
	port := config.Mail.SMTP.Port
	config.Mail.SMTP.Port = 1 // nothing listens there
	server, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	ask(t, server, http.MethodPost, "/forgot", url.Values{"identifier": {"ada"}})
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	config.Mail.SMTP.Port = port
	server, err = New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	receiver.Next()
}

// With an https issuer, a feature that needs mail is refused by name if there is no mail server. On
// loopback, messages are in the log.
func TestMailIsRequiredByName(t *testing.T) {
	for feature, change := range map[string]func(*Config){
		"email_sign_in: true":  func(c *Config) { c.EmailSignIn = true },
		"password_reset: mail": func(c *Config) { c.PasswordReset = configuration.PasswordResetMail },
		"sign_up_requires: email_domain": func(c *Config) {
			c.SignUp, c.SignUpRequires, c.SignUpEmailDomains = true, configuration.SignUpEmailDomain, []string{"example.com"}
		},
	} {
		config := Config{Logger: slog.New(slog.DiscardHandler)}
		config.Issuer, config.Database = "https://login.example.com", "sqlite::memory:"
		change(&config)
		if _, err := New(config); err == nil || !strings.Contains(err.Error(), feature+" needs mail") {
			t.Errorf("%s: %v", feature, err)
		}
		if err := config.Check(t.Context()); err == nil || !strings.Contains(err.Error(), feature) {
			t.Errorf("check of %s: %v", feature, err)
		}
		config.Issuer = "http://127.0.0.1:8080"
		server, err := New(config)
		if err != nil {
			t.Errorf("on loopback, %s: %v", feature, err)
			continue
		}
		_ = server.Close()
	}
	// Nothing is required and nothing is offered.
	config := Config{Logger: slog.New(slog.DiscardHandler)}
	config.Issuer, config.Database, config.SignUp = "https://login.example.com", "sqlite::memory:", true
	server, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	if page := ask(t, server, http.MethodGet, "/sign-in", nil).Body.String(); strings.Contains(page, "Forgot") {
		t.Error("the sign-in page offers a message that cannot be sent")
	}
	if page := ask(t, server, http.MethodGet, "/sign-up", nil).Body.String(); strings.Contains(page, "Email") {
		t.Error("the sign-up page asks for an address that cannot be confirmed")
	}
}

func TestMailOnLoopbackIsInTheLog(t *testing.T) {
	var logged bytes.Buffer // read after Close
	config := Config{Logger: slog.New(slog.NewTextHandler(&logged, nil))}
	config.Issuer, config.Database = "http://127.0.0.1:8080", "sqlite::memory:"
	config.Declarations = declarations(t, "users: [{username: ada, password: engine no. 1, email: ada@example.com, email_verified: true}]\n")
	delivered := make(chan *mail.Letter, 1)
	server, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	ask(t, server, http.MethodPost, "/forgot", url.Values{"identifier": {"ada"}})
	if err := server.mail.Deliver(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil { // waits for deliveries
		t.Fatal(err)
	}
	if log := logged.String(); !strings.Contains(log, "http://127.0.0.1:8080/reset?token=") || !strings.Contains(log, "Your code:") {
		t.Errorf("the log is %s", log)
	}
	// A program that embeds the server can deliver messages itself.
	config.OnMail = func(letter *mail.Letter) { delivered <- letter }
	config.Issuer = "https://login.example.com"
	server, err = New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	ask(t, server, http.MethodPost, "/forgot", url.Values{"identifier": {"ada"}})
	select {
	case letter := <-delivered:
		if letter.To != "ada@example.com" {
			t.Errorf("the message is to %s", letter.To)
		}
	case <-time.After(time.Minute):
		t.Fatal("no message was delivered")
	}
}

func TestMailSettings(t *testing.T) {
	const valid = "from: a@example.com, smtp: {host: smtp.example.com"
	for setting, want := range map[string]string{
		"mail: {" + valid + "}}":                                                                 "",
		"mail: {" + valid + ", tls: none}}":                                                      "mail.smtp.tls",
		"mail: {" + valid + ", tls: implicit, insecure_without_tls: true}}":                      "insecure_without_tls",
		"mail: {" + valid + ", username: login}}":                                                "username and password_file",
		"mail: {from: nobody, smtp: {host: smtp.example.com}}":                                   "mail.from",
		"mail: {from: a@example.com, smtp: {host: 'smtp.example.com:25'}}":                       "mail.smtp",
		"sign_up_requires: invitation":                                                           "requires sign_up: true",
		"sign_up: true\nsign_up_requires: email_domain":                                          "sign_up_email_domains",
		"sign_up: true\nsign_up_requires: email_domain\nsign_up_email_domains: ['@Example.com']": "not a valid domain",
		"sign_up: true\nsign_up_email_domains: [example.com]":                                    "sign_up_email_domains",
		"sign_up: true\nsign_up_requires: friends":                                               "sign_up_requires",
	} {
		_, err := configuration.Parse("v.yaml", []byte(setting+"\n"))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", setting, err)
		}
	}
	config := Config{}
	config.Issuer, config.Database = "https://login.example.com", "sqlite::memory:"
	config.Mail = &configuration.Mail{From: "a@example.com", Templates: "missing", SMTP: &configuration.SMTP{Host: "smtp.example.com", Username: "x", PasswordFile: "gone"}}
	if err := config.CheckFiles(); err == nil || !strings.Contains(err.Error(), "mail.templates") || !strings.Contains(err.Error(), "password_file") {
		t.Errorf("missing files: %v", err)
	}
}

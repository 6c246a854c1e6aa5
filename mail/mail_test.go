package mail_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/valetkey/valetkey/internal/mailtest"
	"github.com/valetkey/valetkey/mail"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/ui/messages"
)

// world is an outbox with a mail server.
type world struct {
	*mail.Outbox
	store storage.Outbox
	log   *bytes.Buffer
}

func newWorld(t *testing.T, change func(*mail.Config)) *world {
	t.Helper()
	w := &world{store: memory.New().Mail(), log: &bytes.Buffer{}}
	config := mail.Config{
		Store: w.store, Key: bytes.Repeat([]byte{7}, 32), Base: "https://login.example.com", Service: "Example",
		From: "Example <login@example.com>", Logger: slog.New(slog.NewJSONHandler(w.log, nil)),
	}
	change(&config)
	var err error
	if w.Outbox, err = mail.New(config); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) send(t *testing.T, m mail.Message) {
	t.Helper()
	if err := w.Send(t.Context(), time.Now(), m); err != nil {
		t.Fatal(err)
	}
	if err := w.Deliver(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// events lists the names of the logged events.
func (w *world) events(t *testing.T) (names string) {
	t.Helper()
	for line := range bytes.Lines(w.log.Bytes()) {
		var record struct{ Event string }
		if err := json.Unmarshal(line, &record); err != nil {
			t.Fatal(err)
		}
		names += record.Event + " "
	}
	return strings.TrimSpace(names)
}

func reset() mail.Message {
	return mail.Message{Kind: mail.KindReset, To: "ada@example.com", Subject: "a1", Username: "ada", Code: "12345678", Path: "/reset?token=xyz", Lifetime: time.Hour}
}

// A mail server that closes the connection when it has accepted a message does not get it again.
func TestDeliveryToAServerThatHangsUp(t *testing.T) {
	server := mailtest.Start(t, mailtest.Options{HangUp: true})
	smtp := mail.SMTP{Host: server.Host, Port: server.Port, CertificateAuthorities: server.Authorities}
	w := newWorld(t, func(config *mail.Config) { config.Deliver = smtp.Deliver })
	w.send(t, reset())
	server.Next()
	if got := w.events(t); got != "mail.sent" {
		t.Errorf("events: %s", got)
	}
}

// A message has a code and a link, as plain text and as HTML, and arrives over TLS.
func TestDeliverySMTP(t *testing.T) {
	for name, c := range map[string]struct {
		options    mailtest.Options
		server     mail.SMTP
		tls, fails bool
	}{
		"STARTTLS":                     {mailtest.Options{RequireAuth: true}, mail.SMTP{Username: mailtest.Username, Password: mailtest.Password}, true, false},
		"implicit TLS":                 {mailtest.Options{ImplicitTLS: true}, mail.SMTP{ImplicitTLS: true}, true, false},
		"without TLS":                  {mailtest.Options{NoTLS: true}, mail.SMTP{NoTLS: true}, false, false},
		"without TLS, with password":   {mailtest.Options{NoTLS: true, RequireAuth: true}, mail.SMTP{NoTLS: true, Username: mailtest.Username, Password: mailtest.Password}, false, false},
		"STARTTLS is not offered":      {mailtest.Options{NoTLS: true}, mail.SMTP{}, false, true},
		"the password is wrong":        {mailtest.Options{RequireAuth: true}, mail.SMTP{Username: mailtest.Username, Password: "wrong"}, true, true},
		"the certificate is untrusted": {mailtest.Options{}, mail.SMTP{}, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			server := mailtest.Start(t, c.options)
			c.server.Host, c.server.Port = server.Host, server.Port
			if name != "the certificate is untrusted" {
				c.server.CertificateAuthorities = server.Authorities
			}
			w := newWorld(t, func(config *mail.Config) { config.Deliver = c.server.Deliver })
			w.send(t, reset())
			if c.fails {
				server.None()
				if got := w.events(t); got != "mail.postponed" {
					t.Errorf("events: %s", got)
				}
				return
			}
			m := server.Next()
			if m.TLS != c.tls || m.Authenticated != c.options.RequireAuth || m.To != "ada@example.com" || m.From != "login@example.com" {
				t.Errorf("the message arrived as %+v", m)
			}
			if m.Subject() != "Choose a new password" || m.Header.Get("From") != `"Example" <login@example.com>` || m.Header.Get("Auto-Submitted") != "auto-generated" {
				t.Errorf("the header is %v", m.Header)
			}
			for part, content := range map[string]string{"text": m.Text, "HTML": m.HTML} {
				for _, want := range []string{"Hello ada,", "1234 5678", "https://login.example.com/reset?token=xyz", "60 minutes", "Example"} {
					if !strings.Contains(content, want) {
						t.Errorf("the %s lacks %q:\n%s", part, want, content)
					}
				}
			}
			if got := w.events(t); got != "mail.sent" {
				t.Errorf("events: %s", got)
			}
		})
	}
}

// A mail server that is unavailable for a while loses no message, and one that refuses a recipient
// is not asked again.
func TestDeliveryRetries(t *testing.T) {
	server := mailtest.Start(t, mailtest.Options{})
	smtp := mail.SMTP{Host: server.Host, Port: server.Port, CertificateAuthorities: server.Authorities}
	w := newWorld(t, func(config *mail.Config) { config.Deliver = smtp.Deliver })
	server.RefuseNext(mailtest.Temporary)
	w.send(t, reset())
	if got := w.events(t); got != "mail.postponed" {
		t.Fatalf("events: %s", got)
	}
	waiting, err := w.store.Claim(t.Context(), time.Now().Add(mail.MinDelay), time.Now().Add(mail.MinDelay), 10, 10)
	if err != nil || len(waiting) != 1 {
		t.Fatalf("after a temporary failure, %v waits, %v", waiting, err)
	}
	w.DeliverOne(t.Context(), waiting[0])
	server.Next()
	server.RefuseNext(mailtest.Permanent)
	w.send(t, reset())
	if got := w.events(t); got != "mail.postponed mail.sent mail.failed" {
		t.Errorf("events: %s", got)
	}
	if strings.Contains(w.log.String(), "12345678") || strings.Contains(w.log.String(), "token=xyz") {
		t.Errorf("the log contains the code or the link: %s", w.log)
	}
	server.None()
}

// A server that stops during a delivery leaves the message to the next one, which delivers it at once.
// A message that has been delivered at that moment is not delivered again.
func TestDeliveryWhenTheServerStops(t *testing.T) {
	for name, outcome := range map[string]struct {
		err   error
		again int
	}{
		"in the middle":      {context.Canceled, 1},
		"after the delivery": {nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			delivered := 0
			w := newWorld(t, func(config *mail.Config) {
				config.Deliver = func(context.Context, *mail.Letter) error {
					stop()
					delivered++
					return outcome.err
				}
			})
			if err := w.Send(ctx, time.Now(), reset()); err != nil {
				t.Fatal(err)
			}
			if err := w.Deliver(ctx); err != nil {
				t.Fatal(err)
			}
			delivered, outcome.err = 0, nil
			if err := w.Deliver(t.Context()); err != nil || delivered != outcome.again {
				t.Errorf("the next server delivers %d messages, %v; want %d", delivered, err, outcome.again)
			}
		})
	}
}

// Deliveries are tried until the message expires.
func TestDeliveryIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attempts := 0
		w := newWorld(t, func(config *mail.Config) {
			config.Deliver = func(context.Context, *mail.Letter) error { attempts++; return errors.New("connection refused") }
		})
		m := reset()
		m.Expires = time.Now().Add(time.Hour)
		if err := w.Send(t.Context(), time.Now(), m); err != nil {
			t.Fatal(err)
		}
		for range 8 * 60 {
			if err := w.Deliver(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
		}
		if got := w.events(t); attempts < 4 || attempts > 8 || !strings.HasSuffix(got, "mail.postponed mail.failed") {
			t.Errorf("%d attempts, events: %s", attempts, got)
		}
	})
}

// The queue of a recipient is bounded, and does not delay the messages to others.
func TestQueueOfARecipientIsBounded(t *testing.T) {
	var delivered []string
	w := newWorld(t, func(config *mail.Config) {
		config.Deliver = func(_ context.Context, letter *mail.Letter) error {
			delivered = append(delivered, letter.To)
			return nil
		}
	})
	for range mail.MaxWaiting {
		if err := w.Send(t.Context(), time.Now(), reset()); err != nil {
			t.Fatal(err)
		}
	}
	again := reset()
	again.To = "ADA@example.com"
	if err := w.Send(t.Context(), time.Now(), again); !errors.Is(err, mail.ErrTooManyWaiting) {
		t.Errorf("one message too many: %v", err)
	}
	other := reset()
	other.To = "grace@example.com"
	if err := w.Send(t.Context(), time.Now().Add(-time.Minute), other); err != nil {
		t.Fatal(err)
	}
	claimed, err := w.store.Claim(t.Context(), time.Now(), time.Now().Add(time.Minute), 2, 1)
	if err != nil || len(claimed) != 2 {
		t.Fatalf("Claim: %v, %v", claimed, err)
	}
	for _, m := range claimed {
		w.DeliverOne(t.Context(), m)
	}
	if !strings.Contains(strings.Join(delivered, " "), "grace@example.com") {
		t.Errorf("delivered: %v", delivered)
	}
}

// Neither the database nor a log shows codes, links or addresses.
func TestStoredMessagesAreEncrypted(t *testing.T) {
	w := newWorld(t, func(config *mail.Config) {
		config.Deliver = func(context.Context, *mail.Letter) error { return nil }
	})
	if err := w.Send(t.Context(), time.Now(), reset()); err != nil {
		t.Fatal(err)
	}
	stored, err := w.store.Claim(t.Context(), time.Now(), time.Now(), 1, 1)
	if err != nil || len(stored) != 1 {
		t.Fatal(stored, err)
	}
	everything := fmt.Sprintf("%s %s %s", stored[0].ID, stored[0].Owner, stored[0].Data)
	for _, secret := range []string{"12345678", "xyz", "ada", "example.com"} {
		if strings.Contains(everything, secret) {
			t.Errorf("the stored message contains %q", secret)
		}
	}
	// A message that was copied under another ID, or encrypted under another key, is refused.
	stored[0].ID += "x"
	if _, err := w.Open(stored[0]); err == nil {
		t.Error("a message can be opened under another ID")
	}
}

// A mail server that refuses a recipient repeats the address in its response. It is not logged.
func TestRefusedAddressIsNotLogged(t *testing.T) {
	server := mailtest.Start(t, mailtest.Options{})
	w := newWorld(t, func(config *mail.Config) {
		smtp := mail.SMTP{Host: server.Host, Port: server.Port, CertificateAuthorities: server.Authorities}
		config.Deliver = smtp.Deliver
	})
	server.RefuseNext(&smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "<Ada@example.com>: Recipient address rejected: unknown"})
	w.send(t, reset())
	for _, want := range []string{"mail.failed", "5.1.1", "the recipient: Recipient address rejected"} {
		if !strings.Contains(w.log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, w.log)
		}
	}
	if strings.Contains(strings.ToLower(w.log.String()), "ada@") {
		t.Errorf("the log has the address:\n%s", w.log)
	}
}

// A message without a recipient is stored and dropped.
func TestMessageToNobody(t *testing.T) {
	w := newWorld(t, func(config *mail.Config) {
		config.Deliver = func(context.Context, *mail.Letter) error { t.Error("it is delivered"); return nil }
	})
	nobody := reset()
	nobody.To = ""
	w.send(t, nobody)
	if left, err := w.store.Claim(t.Context(), time.Now().Add(time.Hour), time.Now(), 1, 1); err != nil || len(left) != 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

func TestParseAddress(t *testing.T) {
	for address, want := range map[string]string{
		"ada@example.com": "ada@example.com", " Ada.L+x@Example.COM ": "Ada.L+x@example.com",
		"ada@bücher.example": "ada@bücher.example", "ada@xn--bcher-kva.example": "ada@bücher.example", "ada@localhost": "ada@localhost",
	} {
		if got, err := mail.ParseAddress(address); err != nil || got != want {
			t.Errorf("ParseAddress(%q) = %q, %v; want %q", address, got, err, want)
		}
	}
	if got, err := mail.ForSMTP("ada@bücher.example"); err != nil || got != "ada@xn--bcher-kva.example" {
		t.Errorf("forSMTP = %q, %v", got, err)
	}
	for _, address := range []string{
		"", "ada", "@example.com", "ada@", "a@b@c", "ada@example.com\r\nBcc: x@example.com", "ada\n@example.com", "Ada <ada@example.com>",
		"<ada@example.com>", `"ada smith"@example.com`, "ada@[192.0.2.1]", "ada (comment)@example.com", "ada,bob@example.com", "ada@example.com, bob@example.com",
		"ada@exa mple.com", "ada@-example.com", "ada@example..com", "ada@example.com.", "adä@example.com", "ada\x00@example.com", "ada@exam\u200bple.com\u202e",
		strings.Repeat("a", 65) + "@example.com", "a@" + strings.Repeat("a.", 200) + "com", ".ada@example.com", "ada.@example.com", "ada;rm@example.com>",
	} {
		if got, err := mail.ParseAddress(address); err == nil {
			t.Errorf("ParseAddress(%q) = %q, want an error", address, got)
		}
	}
}

// Nothing that a message is made of adds a header or another part.
func TestHeaderInjection(t *testing.T) {
	evil := "x\r\nBcc: victim@example.com\r\n\r\n<b>y\u2028z"
	templates, err := mail.ReadTemplates("")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range mail.KindNames() {
		m := mail.Sample(mail.Kind(kind))
		m.Username, m.Browser, m.Address, m.Remote, m.Language = evil, evil, evil, evil, evil
		letter, err := templates.Letter(m, evil, "https://login.example.com")
		if err != nil {
			t.Fatal(err)
		}
		letter.ID, letter.From, letter.Date = "id", "login@example.com", time.Now()
		raw, err := mail.Raw(letter)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := mailtest.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if parsed.Header.Get("Bcc") != "" || len(parsed.Header["To"]) != 1 || strings.Contains(parsed.Text, "\nBcc:") || strings.Contains(parsed.HTML, "<b>y") {
			t.Errorf("%s: %s", kind, raw)
		}
	}
	m := reset()
	m.To = "ada@example.com\r\nBcc: x@example.com"
	w := newWorld(t, func(config *mail.Config) { config.Deliver = func(context.Context, *mail.Letter) error { return nil } })
	if err := w.Send(t.Context(), time.Now(), m); err == nil {
		t.Error("a message to an invalid address is accepted")
	}
}

// The operator's templates replace the built-in ones; a mistake in one is found at the start.
func TestOwnTemplates(t *testing.T) {
	write := func(files map[string]string) string {
		directory := t.TempDir()
		for name, content := range files {
			if err := os.WriteFile(filepath.Join(directory, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return directory
	}
	templates, err := mail.ReadTemplates(write(map[string]string{
		"reset.txt":    `{{define "subject"}}Reset at {{.Service}}{{end}}Use {{.Code}} or {{.Link}}`,
		"reset.en.txt": `{{define "subject"}}English reset{{end}}English {{.Code}}`,
		"message.html": `<p>{{.Message.Username}}`,
	}))
	if err != nil {
		t.Fatal(err)
	}
	m := reset()
	m.Username = "<i>"
	letter, err := templates.Letter(&m, "Example", "https://login.example.com")
	if err != nil || letter.Subject != "English reset" || letter.Text != "English 1234 5678" || letter.HTML != "<p>&lt;i&gt;" {
		t.Errorf("the letter is %q %q %q, %v", letter.Subject, letter.Text, letter.HTML, err)
	}
	for name, content := range map[string]string{"reset.txt": "{{.Cod}}", "rest.txt": "x", "reset.md": "x", "reset.html": "{{if}}"} {
		if _, err := mail.ReadTemplates(write(map[string]string{name: content})); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s with %q: %v", name, content, err)
		}
	}
	if _, err := mail.ReadTemplates(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a missing directory is accepted")
	}
}

// Every kind of message has a subject and a text, and is in the guide, for those who write templates.
func TestKindsHaveTexts(t *testing.T) {
	guide, err := os.ReadFile("../docs/guides/people.md")
	if err != nil {
		t.Fatal(err)
	}
	_, guide, _ = bytes.Cut(guide, []byte("\nThe kinds are "))
	guide, _, _ = bytes.Cut(guide, []byte("\n"))
	for _, kind := range mail.KindNames() {
		if !bytes.Contains(guide, []byte("`"+kind+"`")) {
			t.Errorf("docs/guides/people.md does not name the kind of message %s", kind)
		}
		for _, name := range []string{"subject", "before"} {
			if key := "mail." + kind + "." + name; !messages.Has(key) {
				t.Errorf("there is no text %s", key)
			}
		}
	}
}

// A message is in the user's language, also if it is written from right to left.
func TestMessageInALanguage(t *testing.T) {
	templates, err := mail.ReadTemplates("")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range messages.All() {
		for _, kind := range mail.KindNames() {
			m := mail.Sample(mail.Kind(kind))
			m.Language = l.Tag
			letter, err := templates.Letter(m, "Example", "https://login.example.com")
			if err != nil {
				t.Fatalf("%s in %s: %v", kind, l.Tag, err)
			}
			want := l.Text(messages.New("mail."+kind+".subject", "service", "Example"))
			if letter.Subject != want || !strings.Contains(letter.HTML, `<html lang="`+l.Tag+`" dir="`+l.Direction()+`">`) {
				t.Errorf("%s in %s: the subject is %q", kind, l.Tag, letter.Subject)
			}
			if strings.ContainsAny(letter.Text, "{}") {
				t.Errorf("%s in %s has an argument without value:\n%s", kind, l.Tag, letter.Text)
			}
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"ada@example.com", "a@b\r\nBcc: c", "ada@bücher.example", `"x"@y`, "a@xn--"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		address, err := mail.ParseAddress(s)
		if err != nil {
			return
		}
		if again, err := mail.ParseAddress(address); err != nil || again != address {
			t.Errorf("ParseAddress(%q) = %q, and of that %q, %v", s, address, again, err)
		}
		ascii, err := mail.ForSMTP(address)
		if err != nil || strings.ContainsFunc(ascii, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`<>"(),;:\[]`, r) }) {
			t.Errorf("forSMTP(%q) = %q, %v", address, ascii, err)
		}
	})
}

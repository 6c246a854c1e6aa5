package demo

import (
	"html/template"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/valetkey/valetkey/mail"
)

// maxLetters is how many messages the inbox keeps.
const maxLetters = 50

// inbox keeps the messages that the authorization server sends to users.
type inbox struct {
	mu      sync.Mutex
	letters []*mail.Letter // the latest last
}

func (i *inbox) add(letter *mail.Letter) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.letters = append(i.letters, letter)
	i.letters = i.letters[max(0, len(i.letters)-maxLetters):]
}

// all returns the messages, the latest first.
func (i *inbox) all() []*mail.Letter {
	i.mu.Lock()
	defer i.mu.Unlock()
	letters := slices.Clone(i.letters)
	slices.Reverse(letters)
	return letters
}

var inboxPage = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("inbox.html").Funcs(template.FuncMap{"lines": linkedLines}).ParseFS(files, "inbox.html"))
})

// line is a line of a message; Link is set if the line is a URL of the demo's server.
type line struct{ Text, Link string }

func linkedLines(text, issuer string) []line {
	var lines []line
	for text := range strings.Lines(text) {
		text = strings.TrimRight(text, "\r\n")
		l := line{Text: text}
		if strings.HasPrefix(text, issuer+"/") && !strings.ContainsAny(text, " \t") {
			l.Link = text
		}
		lines = append(lines, l)
	}
	return lines
}

// showInbox shows the messages. The demo has no mail server.
func (d *Demo) showInbox(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	view := struct {
		Issuer, Username string
		Letters          []*mail.Letter
		Now              time.Time
	}{d.issuer, Username, d.inbox.all(), time.Now()}
	if err := inboxPage().Execute(w, view); err != nil {
		d.logger.ErrorContext(r.Context(), "inbox not shown", "error", err)
	}
}

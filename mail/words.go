package mail

import (
	"strings"
	"time"

	"github.com/valetkey/valetkey/ui/messages"
)

// The texts of a kind of message have the keys mail.KIND.subject, before, button and after. before and
// after are paragraphs, separated by empty lines: those before and after the code and the button. Each
// can have the arguments service, username, address, lifetime and count.

// words are the texts of a message in its language.
type words struct {
	language *messages.Language
	kind     Kind
	args     []any
}

func wordsFor(m *Message, service string) words {
	l := messages.Match(m.Language)
	if l == nil {
		l = messages.English
	}
	args := []any{"service", oneLine(service), "username", oneLine(m.Username), "address", oneLine(m.Address), "lifetime", lifetime(m.Lifetime), "count", m.Count, "method", ""}
	if key := "method." + strings.ReplaceAll(m.Method, "_", "-"); m.Method != "" && messages.Has(key) {
		args[len(args)-1] = messages.New(key)
	}
	return words{l, m.Kind, args}
}

// text returns a text that all kinds of messages share.
func (w words) text(key string) string { return w.language.Text(messages.New("mail."+key, w.args...)) }

// own returns a text of this kind; "" if it has none.
func (w words) own(name string) string {
	key := string(w.kind) + "." + name
	if !messages.Has("mail." + key) {
		return ""
	}
	return w.text(key)
}

// paragraphs returns the paragraphs of a text of this kind.
func (w words) paragraphs(name string) []string {
	if text := w.own(name); text != "" {
		return strings.Split(text, "\n\n")
	}
	return nil
}

func lifetime(d time.Duration) *messages.Text {
	switch {
	case d >= 48*time.Hour:
		return messages.New("time.days", "count", int(d/(24*time.Hour)))
	case d >= 2*time.Hour:
		return messages.New("time.hours", "count", int(d/time.Hour))
	}
	return messages.New("time.minutes", "count", int(d/time.Minute))
}

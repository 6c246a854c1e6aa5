// Package event has the events that the server logs for whoever watches over it: one table
// of their names, levels and members (table.go), and one way to log them.
package event

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Kind is one kind of event.
type Kind struct {
	// Name is what the member "event" of the record says: a subject and what happened to it.
	Name string
	// Level is the level of the record.
	Level slog.Level
	// Members are the names of the record's other members, in the order in which they are
	// documented. A record leaves out what is not known.
	Members []string
	// Meaning is the message of the record.
	Meaning string
	// Sampled says that outsiders can cause any number of these, so that those from one
	// address are limited.
	Sampled bool
}

// Log writes events to a logger. It is safe for concurrent use.
type Log struct {
	logger *slog.Logger
	sample sample
}

// New returns a log of events. Close says what is still to be said.
func New(logger *slog.Logger) *Log {
	l := &Log{logger: logger}
	l.sample.init()
	return l
}

// Enabled reports whether records of a kind are written at all.
func (l *Log) Enabled(ctx context.Context, kind *Kind) bool {
	return l.logger.Enabled(ctx, kind.Level)
}

// Record writes an event. If its kind is sampled and too many came from its address, it is
// counted and left out.
//
// Text in members is made safe: it is cut, and what cannot be printed is escaped, so that
// no input starts a line or moves a terminal's cursor.
func (l *Log) Record(ctx context.Context, kind *Kind, members ...slog.Attr) {
	if !l.Enabled(ctx, kind) {
		return
	}
	record := make([]slog.Attr, 0, len(members)+1)
	record = append(record, slog.String("event", kind.Name))
	address := ""
	for _, member := range members {
		if member.Key == keyAddress {
			address = member.Value.String()
		}
		record = append(record, safe(member))
	}
	if kind.Sampled && !l.sample.take(l, kind, address) {
		return
	}
	l.logger.LogAttrs(ctx, kind.Level, kind.Meaning, record...)
}

const keyAddress = "address"

// Address is the member that says where a request came from.
func Address(address netip.Addr) slog.Attr {
	if !address.IsValid() {
		return slog.Attr{} // left out by every handler
	}
	return slog.String(keyAddress, address.Unmap().String())
}

// Together makes one attribute of several members that belong together.
func Together(members ...slog.Attr) slog.Attr {
	return slog.Attr{Value: slog.GroupValue(members...)}
}

// safe returns a member whose text can be written anywhere.
func safe(member slog.Attr) slog.Attr {
	switch member.Value.Kind() {
	case slog.KindString:
		member.Value = slog.StringValue(Printable(member.Value.String()))
	case slog.KindGroup:
		members := member.Value.Group()
		made := make([]slog.Attr, len(members))
		for i, m := range members {
			made[i] = safe(m)
		}
		member.Value = slog.GroupValue(made...)
	case slog.KindAny:
		switch v := member.Value.Any().(type) {
		case nil:
		case error:
			member.Value = slog.StringValue(Printable(v.Error()))
		case []string:
			member.Value = slog.StringValue(Printable(strings.Join(v, " ")))
		case fmt.Stringer:
			member.Value = slog.StringValue(Printable(v.String()))
		default:
			member.Value = slog.StringValue(Printable(fmt.Sprint(v)))
		}
	}
	return member
}

// maxText is how many bytes of a text are logged. Causes of faults can be long.
const maxText = 600

// Printable cuts a text and escapes everything in it that is not printable: line ends,
// control characters of terminals, and marks that turn the direction of writing.
func Printable(s string) string {
	if len(s) > maxText {
		cut := maxText
		for cut > maxText-utf8.UTFMax && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "…"
	}
	if utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		s = s[size:]
	}
	return b.String()
}

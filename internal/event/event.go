// Package event has the events that the server logs for monitoring: one table
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

	"github.com/valetkey/valetkey/internal/telemetry"
)

// Kind is one kind of event.
type Kind struct {
	// Name is the value of the member "event" of the record: a subject and what happened to it.
	Name string
	// Level is the level of the record.
	Level slog.Level
	// Members are the names of the record's other members, in the order in which they are
	// documented. A record omits members that are unknown.
	Members []string
	// Meaning is the message of the record.
	Meaning string
	// unknown: it is not in the table.
	unknown bool
	// Sampled events can be caused by anyone, any number of times, so those from one address are
	// limited.
	Sampled bool
}

// Log writes events to a logger. It is safe for concurrent use.
type Log struct {
	logger    *slog.Logger
	telemetry *telemetry.Telemetry
	sample    sample
}

// New returns a log of events. Close logs what is still pending.
func New(logger *slog.Logger) *Log {
	l := &Log{logger: logger, telemetry: telemetry.Of(logger)}
	for _, kind := range Kinds {
		l.telemetry.KnowEvent(kind.Name)
	}
	l.sample.init()
	return l
}

// Telemetry returns the telemetry of the logger; nil if there is none. l may be nil.
func (l *Log) Telemetry() *telemetry.Telemetry {
	if l == nil {
		return nil
	}
	return l.telemetry
}

// Enabled reports whether records of a kind are logged.
func (l *Log) Enabled(ctx context.Context, kind *Kind) bool {
	return l.logger.Enabled(ctx, kind.Level)
}

// Record logs an event. If its kind is sampled and there were too many from its address, it is
// counted and omitted.
//
// Text in members is shortened, and unprintable characters are escaped, so that no input starts
// a new record or controls a terminal.
func (l *Log) Record(ctx context.Context, kind *Kind, members ...slog.Attr) {
	if kind.unknown {
		l.telemetry.Event(telemetry.Other)
	} else {
		l.telemetry.Event(kind.Name)
	}
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

// Address returns the member with the address that a request came from.
func Address(address netip.Addr) slog.Attr {
	if !address.IsValid() {
		return slog.Attr{} // omitted by every handler
	}
	return slog.String(keyAddress, address.Unmap().String())
}

// Together returns one attribute for several members.
func Together(members ...slog.Attr) slog.Attr {
	return slog.Attr{Value: slog.GroupValue(members...)}
}

// safe returns a member with its text made printable.
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

// maxText is the number of bytes of a text that are logged. Causes of failures can be long.
const maxText = 600

// Printable shortens a text and escapes everything in it that is not printable: line breaks,
// control characters of terminals, and marks that change the direction of text.
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

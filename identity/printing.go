package identity

import (
	"fmt"
	"log/slog"
)

// Passwords, hashes and personal data are not shown when a value is printed, whatever the verb,
// or logged.

// Format keeps the password hash and the claims out of logs and messages.
func (u User) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "[user %q]", u.ID) }

// LogValue keeps the password hash and the claims out of structured logs.
func (u User) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(u)) }

// Format keeps the password out of logs and messages.
func (a Attempt) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[sign-in attempt]") }

// LogValue keeps the password out of structured logs.
func (a Attempt) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(a)) }

// Format keeps the passwords out of logs and messages.
func (c PasswordChange) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, "[password change of user %q]", c.UserID)
}

// LogValue keeps the passwords out of structured logs.
func (c PasswordChange) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

// Format keeps the address and the browser out of logs and messages.
func (s Session) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "[session %q]", s.ID) }

// LogValue keeps the address and the browser out of structured logs.
func (s Session) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(s)) }

// Format keeps the address and the browser out of logs and messages.
func (d SessionDetails) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[details of a session]") }

// LogValue keeps the address and the browser out of structured logs.
func (d SessionDetails) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(d)) }

// Format keeps the keys out of logs and messages.
func (a Accounts) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[accounts]") }

// LogValue keeps the keys out of structured logs.
func (a Accounts) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(a)) }

// Format keeps the secret out of logs and messages.
func (c Config) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[configuration of accounts]") }

// LogValue keeps the secret out of structured logs.
func (c Config) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

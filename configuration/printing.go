package configuration

import (
	"fmt"
	"log/slog"
)

// Declarations contain secrets and passwords as the operator wrote them. Printing, with any
// verb, and logging never show them.

// Format keeps secrets and keys out of logs and messages.
func (c Configuration) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "[configuration of %s]", c.Issuer) }

// LogValue keeps secrets and keys out of structured logs.
func (c Configuration) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

// Format keeps the secret out of logs and messages.
func (c Client) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "[client %q]", c.ID) }

// LogValue keeps the secret out of structured logs.
func (c Client) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

// Format keeps the password out of logs and messages.
func (u User) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "[user %q]", u.Username) }

// LogValue keeps the password out of structured logs.
func (u User) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(u)) }

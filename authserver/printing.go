package authserver

import (
	"fmt"
	"log/slog"
)

// Format keeps keys out of logs and messages, whatever the verb.
func (c Config) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "[authorization server %s]", c.Issuer) }

// LogValue keeps keys out of structured logs.
func (c Config) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

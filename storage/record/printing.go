package record

import (
	"fmt"
	"log/slog"
)

// Secrets and private keys are not shown when a record is printed, whatever the verb, or logged.

// Format keeps the secrets out of logs and messages.
func (c Client) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "[client %q]", c.ID) }

// LogValue keeps the secrets out of structured logs.
func (c Client) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

// Format keeps the hash of the registration access token out of logs and messages.
func (r Registration) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, "[registration of %s]", r.CreatedAt)
}

// LogValue keeps the hash of the registration access token out of structured logs.
func (r Registration) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(r)) }

// Format keeps the private key out of logs and messages.
func (k Key) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "[key %q of %s]", k.ID, k.Algorithm) }

// LogValue keeps the private key out of structured logs.
func (k Key) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(k)) }

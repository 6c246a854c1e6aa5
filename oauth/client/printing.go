package client

import (
	"fmt"
	"io"
	"log/slog"
)

// Types that hold tokens, codes or keys for a short time are printed without their values,
// for every verb and in structured logs. Other types have these methods where they are
// declared.

// Format keeps the ID token out of logs and error messages.
func (AuthorizationOptions) Format(s fmt.State, _ rune) { io.WriteString(s, "[authorization options]") }

// LogValue keeps the ID token out of structured logs.
func (AuthorizationOptions) LogValue() slog.Value {
	return slog.StringValue("[authorization options]")
}

// Format keeps the ID token out of logs and error messages.
func (LogoutOptions) Format(s fmt.State, _ rune) { io.WriteString(s, "[logout options]") }

// LogValue keeps the ID token out of structured logs.
func (LogoutOptions) LogValue() slog.Value { return slog.StringValue("[logout options]") }

// Format keeps the access token out of logs and error messages.
func (IDTokenOptions) Format(s fmt.State, _ rune) { io.WriteString(s, "[ID token options]") }

// LogValue keeps the access token out of structured logs.
func (IDTokenOptions) LogValue() slog.Value { return slog.StringValue("[ID token options]") }

// Format keeps the tokens out of logs and error messages.
func (TokenExchangeRequest) Format(s fmt.State, _ rune) {
	io.WriteString(s, "[token exchange request]")
}

// LogValue keeps the tokens out of structured logs.
func (TokenExchangeRequest) LogValue() slog.Value {
	return slog.StringValue("[token exchange request]")
}

// Format keeps the codes out of logs and error messages.
func (DeviceAuthorization) Format(s fmt.State, _ rune) { io.WriteString(s, "[device authorization]") }

// LogValue keeps the codes out of structured logs.
func (DeviceAuthorization) LogValue() slog.Value { return slog.StringValue("[device authorization]") }

// Format keeps the claims of an end user out of logs and error messages.
func (IDToken) Format(s fmt.State, _ rune) { io.WriteString(s, "[ID token]") }

// LogValue keeps the claims of an end user out of structured logs.
func (IDToken) LogValue() slog.Value { return slog.StringValue("[ID token]") }

// Format keeps the claims of an end user out of logs and error messages.
func (UserInfo) Format(s fmt.State, _ rune) { io.WriteString(s, "[UserInfo]") }

// LogValue keeps the claims of an end user out of structured logs.
func (UserInfo) LogValue() slog.Value { return slog.StringValue("[UserInfo]") }

// Format keeps sessions out of logs and error messages.
func (m *MemorySessions) Format(s fmt.State, _ rune) { io.WriteString(s, "[sessions in memory]") }

// Format keeps keys and tokens out of logs and error messages.
func (b Backend) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "[backend of %v]", b.party) }

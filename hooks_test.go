package valetkey

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/storage/record"
)

func hookConfiguration(hooks ...configuration.Hook) configuration.Configuration {
	return configuration.Configuration{
		Issuer: "http://127.0.0.1:8080", Database: "sqlite::memory:", Hooks: hooks,
		Declarations: configuration.Declarations{Resources: []record.Resource{{Identifier: "https://notes.example.com"}}},
	}
}

// A hook that is never called refuses nothing, so a misspelled name must not go unnoticed.
func TestHooksForUnknownClientsAndResourcesAreLogged(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("whsec_"+strings.Repeat("AAAA", 8)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	s, err := New(Config{
		Configuration: hookConfiguration(configuration.Hook{
			URL: "https://policy.example.com", SecretFile: secret,
			Clients: []string{"wbe"}, Resources: []string{"https://notes.example.com", "https://ntoes.example.com"},
		}),
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"wbe", "https://ntoes.example.com"} {
		if !strings.Contains(log.String(), name) {
			t.Errorf("%s is not in the log: %s", name, log.String())
		}
	}
	if strings.Contains(log.String(), "https://notes.example.com") || strings.Contains(log.String(), "whsec") {
		t.Error(log.String())
	}
}

func TestAHookWithoutItsSecretKeepsTheServerFromStarting(t *testing.T) {
	short := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(short, []byte("whsec_AAAA"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{short, short + "-is-not-there"} {
		s, err := New(Config{
			Configuration: hookConfiguration(configuration.Hook{URL: "https://policy.example.com", SecretFile: file}),
			Logger:        slog.New(slog.DiscardHandler),
		})
		if err == nil {
			t.Errorf("it starts with %s", file)
			_ = s.Close()
		} else if strings.Contains(err.Error(), "whsec_AAAA") {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}

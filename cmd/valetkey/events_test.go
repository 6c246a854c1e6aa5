package main

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/internal/event"
)

// A command leaves its events in the database, because its own log is lost. A server logs them.
func TestCommandsLeaveEventsForTheLogOfAServer(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("VALETKEY_MASTER_KEY", "")
	t.Setenv("VALETKEY_DATABASE", "")
	if err := os.WriteFile("v.yaml", []byte("issuer: https://login.example.com\nusers: [{username: ada}, {username: bob}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("less.yaml", []byte("issuer: https://login.example.com\nusers: [{username: ada}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{
		"apply v.yaml", "apply v.yaml", "apply --prune --yes less.yaml",
		"users disable ada", "users enable ada", "revoke --user ada", "users delete ada --yes",
		"keys rotate --algorithm ES256 --revoke", "registration token --note partner",
		"users disable nobody", "users list", "diff v.yaml",
	} {
		var out, log strings.Builder
		if code := run(t.Context(), strings.Fields(args), &out, &log); (code != 0) != strings.HasSuffix(args, "nobody") {
			t.Fatalf("valetkey %s ends with %d:\n%s%s", args, code, &out, &log)
		}
	}

	store, err := database.Open(t.Context(), &configuration.Configuration{Database: configuration.DefaultDatabase}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	messages, err := store.Claim(t.Context(), time.Now(), time.Now().Add(time.Minute), 100, 100)
	if err != nil {
		t.Fatal(err)
	}
	var logged bytes.Buffer
	events := event.New(slog.New(slog.NewTextHandler(&logged, nil)))
	for _, m := range messages {
		if !events.RecordQueued(t.Context(), m) {
			t.Errorf("%q is not an event", m.ID)
		}
	}
	for _, want := range []string{
		"event=declarations.applied source=https://login.example.com changes=2 operator=", "event=declarations.removed kind=user name=bob",
		"event=user.disabled sub=", "event=user.enabled", "event=user.revoked", "event=user.deleted", "event=signing_key.created kid=",
		"event=signing_key.revoked", "event=initial_access_token.created uses=1 note=partner",
	} {
		if strings.Count(logged.String(), want) != 1 {
			t.Errorf("the log does not have %s once:\n%s", want, &logged)
		}
	}
	if n := strings.Count(logged.String(), "event=declarations.applied"); n != 2 {
		t.Errorf("%d times declarations were applied, want 2:\n%s", n, &logged)
	}
	if !strings.Contains(logged.String(), "username=ada operator=") || !strings.Contains(logged.String(), " at=20") {
		t.Errorf("the log does not say who was disabled, by whom and when:\n%s", &logged)
	}
}

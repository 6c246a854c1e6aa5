package identity

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// newBreachedAccounts returns accounts that ask a service, and their log.
func newBreachedAccounts(t *testing.T, service func(context.Context, string) (bool, error)) (*Accounts, *strings.Builder) {
	t.Helper()
	var log strings.Builder
	a, err := New(Config{Store: newMapStore(), Logger: slog.New(slog.NewJSONHandler(&log, nil)), BreachedPasswords: service})
	if err != nil {
		t.Fatal(err)
	}
	return a, &log
}

// The service is asked last, about the same characters that are hashed.
func TestBreachedPasswordsAreRefused(t *testing.T) {
	var asked []string
	a, _ := newBreachedAccounts(t, func(_ context.Context, password string) (bool, error) {
		asked = append(asked, password)
		return password == "lunar module 11", nil
	})
	_, err := a.SignUp(t.Context(), time.Now(), NewAccount{Username: "alice", Password: "lunar\u00a0module 11"})
	if weak, ok := errors.AsType[*WeakPasswordError](err); !ok || !strings.Contains(weak.Reason, "data breach") {
		t.Errorf("SignUp = %v", err)
	}
	if _, err := a.SignUp(t.Context(), time.Now(), NewAccount{Username: "alice", Password: "short"}); err == nil {
		t.Error("SignUp accepts a short password")
	}
	if _, err := a.SignUp(t.Context(), time.Now(), NewAccount{Username: "alice", Password: "lunar module 12"}); err != nil {
		t.Error(err)
	}
	if len(asked) != 2 || asked[0] != "lunar module 11" {
		t.Errorf("the service was asked about %q", asked)
	}
}

// Users can choose a password while the service fails, and the operator learns about it.
func TestBreachedPasswordServiceFails(t *testing.T) {
	a, log := newBreachedAccounts(t, func(context.Context, string) (bool, error) { return false, errors.New("connection refused") })
	if _, err := a.SignUp(t.Context(), time.Now(), NewAccount{Username: "alice", Password: "lunar module 11"}); err != nil {
		t.Error(err)
	}
	a.Close()
	if !strings.Contains(log.String(), "password.breach_check_failed") || !strings.Contains(log.String(), "connection refused") || strings.Contains(log.String(), "lunar") {
		t.Errorf("the log is %s", log)
	}
}

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

// A password that is the only factor is longer than one next to a second factor.
func TestMinimumLengthOfPasswords(t *testing.T) {
	a := nodesOf(t, newMapStore(alice(t)))[0]
	a.verify = onlyAlice
	change := func(password string) error {
		return a.ChangePassword(t.Context(), start, PasswordChange{UserID: "a", Current: alicePassword, New: password})
	}
	weak, ok := errors.AsType[*WeakPasswordError](change("lunar module 1"))
	if !ok || weak.Weakness != "short" || weak.Min != 15 {
		t.Errorf("14 characters: %v", weak)
	}
	enrol(t, a, start, "a", "Phone")
	if weak, ok := errors.AsType[*WeakPasswordError](change("lunar m")); !ok || weak.Min != 8 {
		t.Errorf("7 characters with a second factor: %v", weak)
	}
	if err := change("lunar mo"); err != nil {
		t.Errorf("8 characters with a second factor: %v", err)
	}
	short, err := New(Config{Store: newMapStore(), Logger: slog.New(slog.DiscardHandler), MinPasswordRunes: 10})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := short.SignUp(t.Context(), start, NewAccount{Username: "bob", Password: "lunar modu"}); err != nil {
		t.Errorf("10 characters where that is the minimum: %v", err)
	}
}

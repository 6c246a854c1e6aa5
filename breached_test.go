package valetkey

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// The server asks the operator's service about a new password, and nothing else about it leaves the
// server. When the service fails, users can still sign up.
func TestServerAsksForBreachedPasswords(t *testing.T) {
	var asked atomic.Pointer[http.Request]
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r)
		_, _ = io.WriteString(w, strings.ToUpper(breachedSuffix)+":7\r\n")
	}))
	defer service.Close()
	var log strings.Builder
	config := Config{Logger: slog.New(slog.NewJSONHandler(&log, nil))}
	config.Issuer, config.Database, config.SignUp = "http://127.0.0.1:1", "sqlite::memory:", true
	config.BreachedPasswordService = service.URL + "/range/"
	config.Outgoing.Networks = []string{"127.0.0.0/8"}
	if err := config.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	server, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	signUp := func(name, password string) *httptest.ResponseRecorder {
		return ask(t, server, http.MethodPost, "/sign-up", url.Values{"username": {name}, "password": {password}})
	}
	if response := signUp("grace", breachedPassword); response.Code != http.StatusBadRequest || !strings.Contains(response.Body.String(), "data breach") {
		t.Errorf("a breached password: %d", response.Code)
	}
	if r := asked.Load(); r == nil || r.URL.Path != "/range/"+strings.ToUpper(breachedPrefix) || r.Header.Get("Add-Padding") != "true" || r.ContentLength > 0 {
		t.Errorf("the service was asked %v", r)
	}
	if response := signUp("grace", "another engine of babbage"); response.Code != http.StatusSeeOther {
		t.Errorf("another password: %d", response.Code)
	}
	service.Close()
	if response := signUp("hopper", "a third engine of babbage"); response.Code != http.StatusSeeOther {
		t.Errorf("without the service: %d", response.Code)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "password.breach_check_failed") || strings.Contains(log.String(), "babbage") {
		t.Errorf("the log is %s", log.String())
	}
}

// The SHA-1 hash of breachedPassword is breachedPrefix and breachedSuffix.
const (
	breachedPassword = "engine no. 11 of babbage"
	breachedPrefix   = "963a1"
	breachedSuffix   = "59809b844b08ff3ddcbbd08926686be8ab0"
)

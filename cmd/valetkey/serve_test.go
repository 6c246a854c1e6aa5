package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/valetkey/valetkey"
)

func TestABrokenFileChangesNothing(t *testing.T) {
	const right = "issuer: http://127.0.0.1:8080\ndatabase: \"sqlite::memory:\"\nclients:\n  - {client_id: app, redirect_uris: [\"http://127.0.0.1/cb\"]}\n"
	command := serveCommand{Config: filepath.Join(t.TempDir(), "valetkey.yaml")}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(command.Config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(right)
	configuration, err := command.configuration()
	if err != nil {
		t.Fatal(err)
	}
	command.running = settingsOf(configuration)
	var logged bytes.Buffer
	log := slog.New(slog.NewTextHandler(&logged, nil))
	server, err := valetkey.New(valetkey.Config{Configuration: configuration, Source: "file:valetkey.yaml", Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	known := func() bool {
		query := url.Values{"client_id": {"app"}, "redirect_uri": {"http://127.0.0.1/cb"}, "response_type": {"code"}}
		w := httptest.NewRecorder()
		server.ServeHTTP(w, httptest.NewRequest(http.MethodGet, configuration.Issuer+"/authorize?"+query.Encode(), nil))
		return w.Code == http.StatusSeeOther
	}
	for _, broken := range []string{
		"clients: []\nnonsense: true\n", "clients: [", "issuer: http://login.example.com\n",
		strings.Replace(right, "http://127.0.0.1/cb", "http://app.example.com/cb", 1),
	} {
		logged.Reset()
		write(broken)
		command.apply(t.Context(), server, log)
		if !known() || !strings.Contains(logged.String(), "the old one stays") {
			t.Errorf("with the file\n%s\nthe client is known: %v, and the log says\n%s", broken, known(), &logged)
		}
	}
	logged.Reset()
	write("issuer: http://127.0.0.1:8080\ndatabase: \"sqlite::memory:\"\nlisten: 127.0.0.1:9090\n")
	command.apply(t.Context(), server, log)
	if !strings.Contains(logged.String(), "configuration reloaded") || !strings.Contains(logged.String(), "at the next start") {
		t.Errorf("the log says\n%s", &logged)
	}
}

func TestHangupReloads(t *testing.T) {
	// Without this, a signal that comes before reload listens would end the test.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	defer signal.Stop(caught)
	command := serveCommand{Config: filepath.Join(t.TempDir(), "valetkey.yaml")}
	if err := os.WriteFile(command.Config, []byte("issuer: http://127.0.0.1:8080\ndatabase: \"sqlite::memory:\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	configuration, err := command.configuration()
	if err != nil {
		t.Fatal(err)
	}
	server, err := valetkey.New(valetkey.Config{Configuration: configuration, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	read, write := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		command.reload(ctx, server, slog.New(slog.NewTextHandler(write, nil)))
		write.Close()
		close(ended)
	}()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	reloaded := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(read)
		for lines.Scan() {
			if strings.Contains(lines.Text(), "configuration reloaded") {
				select {
				case reloaded <- true:
				default:
				}
			}
		}
	}()
	for done := false; !done; {
		select {
		case done = <-reloaded:
		case <-again.C:
			if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
		case <-t.Context().Done():
			t.Fatal("nothing was reloaded")
		}
	}
	cancel()
	<-ended
}

func TestNoPasswordOfADatabaseIsPrinted(t *testing.T) {
	for database, want := range map[string]string{
		"sqlite:./valetkey.db":                            "sqlite:./valetkey.db",
		"postgres://root:hunter2@db.example.com:5432/v":   "postgres://db.example.com:5432/v",
		"postgres://db.example.com/v?password=hunter2":    "postgres://db.example.com/v",
		"postgres://root:hunter%zz2@db.example.com/v":     "postgres:…",
		"postgres:///v?host=/run/pg&password=hunter2":     "postgres:…",
		"postgresql://root:hunter2@db1,db2.example.com/v": "postgresql://db1,db2.example.com/v",
	} {
		if got := redactedDatabase(database); got != want {
			t.Errorf("%s is printed as %s", database, got)
		}
	}
}

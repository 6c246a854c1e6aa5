package faults

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valetkey/valetkey/internal/person"
)

// Whatever a writer does to the configuration file of a running server, and however long it
// takes, users can sign in, clients can refresh, and no sub or password changes.
func TestOP01_TornFileWhileUsersSignIn(t *testing.T) {
	program := buildProgram(t)
	s := newSite(t, "sqlite:"+filepath.Join(t.TempDir(), "test.db"))
	s.listener.Close() // the program opens its own listener
	log := &tornLog{}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	server := exec.CommandContext(ctx, program, "serve", "--config", s.file)
	server.Cancel = func() error { return server.Process.Signal(os.Interrupt) }
	server.Stderr = log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	s.waitReady(t)
	users := func() string {
		output, err := exec.CommandContext(t.Context(), program, "users", "list", "--json", "--config", s.file).Output()
		if err != nil {
			t.Fatalf("list users: %v", err)
		}
		return string(output)
	}
	before := users()

	var all []*customer
	for i := range customers {
		all = append(all, &customer{t: t, site: s, person: person.New(fmt.Sprint("ada", i), password)})
	}
	working, written := s.work(all), make(chan error, 1)
	go func() { written <- tear(s.file) }()
	responses, torn := 0, false
	for !torn {
		select {
		case <-s.answered:
			responses++
		case <-working:
			t.FailNow()
		case err := <-written:
			if torn = true; err != nil {
				t.Error(err)
			}
		}
	}
	s.dying.Store(true)
	for done := false; !done; {
		select {
		case <-s.answered:
		case <-working:
			done = true
		}
	}
	if after := users(); after != before {
		t.Errorf("the users were\n%s\nand are\n%s", before, after)
	}
	if text := log.String(); strings.Count(text, "the previous configuration stays in force") < 3 || strings.Contains(text, "panic") {
		t.Errorf("the log is\n%s", text)
	}
	s.dying.Store(false)
	for _, c := range all { // earlier tokens are still valid
		if c.code != "" && len(c.tokens) > 0 {
			if err := c.refresh(); err != nil {
				t.Error(err)
			}
		}
	}
	stop()
	if err := server.Wait(); err != nil && !strings.Contains(err.Error(), "context canceled") {
		t.Errorf("the server ended with %v\n%s", err, log.String())
	}
	t.Logf("%d responses", responses)
}

// tear leaves a file empty, truncated, invalid and missing in turn, for longer and shorter than a
// server waits, and finally complete.
func tear(path string) error {
	whole, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	atUsers := bytes.Index(whole, []byte("users:"))
	middle := len(whole) / 2
	for _, state := range []struct {
		text []byte
		hold time.Duration
	}{
		{nil, 3500 * time.Millisecond},
		{whole[:atUsers], time.Second}, // before a section
		{whole[:atUsers], 3500 * time.Millisecond},
		{whole[:middle], 3500 * time.Millisecond}, // in the middle of a line
		{bytes.Replace(whole, []byte("ada1"), []byte("ada0"), 1), 3500 * time.Millisecond},
	} {
		if err := os.WriteFile(path, state.text, 0o600); err != nil {
			return err
		}
		<-time.After(state.hold)
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			return err
		}
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	<-time.After(3500 * time.Millisecond)
	if err := os.WriteFile(path+".new", whole, 0o600); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	<-time.After(3500 * time.Millisecond)
	return nil
}

// tornLog is a log that can be read while a server writes it.
type tornLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *tornLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *tornLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (s *site) waitReady(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-tick.C {
		response, err := s.client.Get(s.issuer + "/readyz")
		if err != nil {
			continue
		}
		_, _ = io.Copy(io.Discard, response.Body)
		response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return
		}
	}
	t.Fatal("the server does not get ready")
}

// buildProgram builds the command valetkey and returns its path.
func buildProgram(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "valetkey")
	if output, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, "github.com/valetkey/valetkey/cmd/valetkey").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, output)
	}
	return path
}

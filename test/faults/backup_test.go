package faults

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/internal/pgtest"
)

// TestBackupAndRestore runs the commands of docs/guides/deploy.md: a backup while users sign in and
// clients refresh, and a server on the restored copy. Passwords, refresh tokens and signing keys
// from before the backup work again, but only with the same master key.
func TestBackupAndRestore(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) {
		valetkey := buildProgram(t)
		dir := t.TempDir()
		database := filepath.Join(dir, "valetkey.db")
		backUpAndRestore(t, "sqlite:"+database, func() (restored string) {
			backup := filepath.Join(dir, "backup.db")
			command(t, valetkey, "backup", backup, "--database", "sqlite:"+database)
			elsewhere := filepath.Join(t.TempDir(), "valetkey.db")
			copyFile(t, database+".key", elsewhere+".key")
			command(t, valetkey, "restore", backup, "--database", "sqlite:"+elsewhere)
			return "sqlite:" + elsewhere
		})
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		dump, restore := program(t, "pg_dump"), program(t, "pg_restore")
		database := pgtest.Database(t)
		backUpAndRestore(t, database, func() string {
			backup := filepath.Join(t.TempDir(), "valetkey.dump")
			command(t, dump, "--format=custom", "--file="+backup, database)
			empty := pgtest.Database(t)
			command(t, restore, "--no-owner", "--exit-on-error", "--single-transaction", "--dbname="+empty, backup)
			return empty
		})
	})
}

// program returns the path of a program, on the PATH or in PostgreSQL's directory.
func program(t *testing.T, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil || len(found) == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not installed", name)
		}
		t.Skipf("%s is not installed", name)
	}
	return found[len(found)-1]
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if output, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, output)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func backUpAndRestore(t *testing.T, database string, copyOf func() string) {
	s := newSite(t, database)
	server := s.start(t)
	early := &customer{t: t, site: s, person: person.New("ada0", password)}
	for _, step := range []func() error{early.authorize, early.redeem, early.refresh} {
		if err := step(); err != nil {
			t.Fatalf("before the backup: %v\n%s", err, server.stderr.String())
		}
	}
	kids := s.kids(t)
	stop := s.load(t)
	restored := copyOf()
	requests := stop()
	if requests < 5 {
		t.Fatalf("only %d requests during the backup: that is not enough load", requests)
	}
	server.kill(t)
	server.waitKilled(t)
	settle(t, database)

	s.moveTo(t, database, restored)
	s.rejectsOtherKey(t)
	server = s.start(t)
	if err := early.refresh(); err != nil {
		t.Errorf("the refresh token from before the backup: %v\n%s", err, server.stderr.String())
	}
	again := &customer{t: t, site: s, person: person.New("ada0", password)}
	for _, step := range []func() error{again.authorize, again.redeem, again.refresh} {
		if err := step(); err != nil {
			t.Errorf("sign in after the restore: %v\n%s", err, server.stderr.String())
		}
	}
	if got := s.kids(t); !slices.Equal(got, kids) {
		t.Errorf("the keys are %v, want those from before the backup: %v", got, kids)
	}
	server.kill(t)
	server.waitKilled(t)
	settle(t, restored)
	checkIntegrity(t, restored)
}

// load makes customers sign in and refresh until stop is called, which returns how many requests
// got a response.
func (s *site) load(t *testing.T) (stop func() int64) {
	var answered atomic.Int64
	var working sync.WaitGroup
	done := make(chan struct{})
	for i := 1; i < customers; i++ {
		working.Go(func() {
			for {
				c := &customer{t: t, site: s, person: person.New(fmt.Sprint("ada", i), password)}
				for _, step := range []func() error{c.authorize, c.redeem, c.refresh, c.refresh} {
					select {
					case <-done:
						return
					default:
					}
					if err := step(); err != nil {
						t.Errorf("during the backup: %v", err)
						return
					}
					answered.Add(1)
				}
			}
		})
	}
	for deadline := time.Now().Add(time.Minute); answered.Load() < 5 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	before := answered.Load()
	return func() int64 {
		for deadline := time.Now().Add(time.Minute); answered.Load() < before+5 && time.Now().Before(deadline); {
			time.Sleep(10 * time.Millisecond)
		}
		close(done)
		working.Wait()
		return answered.Load() - before
	}
}

// kids returns the kids of the signing keys.
func (s *site) kids(t *testing.T) []string {
	t.Helper()
	response, err := s.client.Get(s.issuer + "/jwks")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var set struct {
		Keys []struct{ Kid string }
	}
	if err := json.NewDecoder(response.Body).Decode(&set); err != nil {
		t.Fatal(err)
	}
	var kids []string
	for _, key := range set.Keys {
		kids = append(kids, key.Kid)
	}
	return kids
}

// moveTo makes the next server use another database.
func (s *site) moveTo(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	moved := bytes.Replace(data, fmt.Appendf(nil, "%q", from), fmt.Appendf(nil, "%q", to), 1)
	if bytes.Equal(moved, data) {
		t.Fatal("the configuration does not name the database")
	}
	if err := os.WriteFile(s.file, moved, 0o600); err != nil {
		t.Fatal(err)
	}
}

// rejectsOtherKey checks that a restored database does not open with another master key.
func (s *site) rejectsOtherKey(t *testing.T) {
	t.Helper()
	other := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
	server := start(t, "server", func(command *exec.Cmd) {
		command.Env = append(append(command.Env, s.env...), "VALETKEY_MASTER_KEY="+other)
		command.ExtraFiles = []*os.File{s.listener}
	})
	if err := <-server.ended; err == nil || !strings.Contains(server.stderr.String(), "master key is not the one") {
		t.Errorf("with another master key: %v\n%s", err, server.stderr.String())
	}
}

package main

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/internal/pgtest"
)

// A backup that an older version made is restored and migrated by this one, with the commands of
// docs/guides/deploy.md. The databases in testdata were written by a program with schema version 12.
func TestABackupOfAnOlderVersionIsRestoredAndUpgraded(t *testing.T) {
	program := filepath.Join(t.TempDir(), "valetkey")
	if output, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/valetkey/valetkey/cmd/valetkey").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, output)
	}
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		backup := unpacked(t, "testdata/older.db.gz")
		restored := "sqlite:" + filepath.Join(t.TempDir(), "valetkey.db")
		runs(t, program, 0, "restore", backup, "--database", restored)
		runs(t, program, 0, "migrate", "--dry-run", "--database", restored) // restore has migrated it
		works(t, program, restored, "testdata/older.db.json")

		// A database that was not restored, but stopped.
		stopped := "sqlite:" + unpacked(t, "testdata/older.db.gz")
		dryRun := runs(t, program, 3, "migrate", "--dry-run", "--database", stopped)
		if !strings.Contains(dryRun, "ALTER TABLE users ADD COLUMN") || !strings.Contains(dryRun, "The lock for writing: writes wait") {
			t.Errorf("the dry run:\n%s", dryRun)
		}
		if applied := runs(t, program, 0, "migrate", "--database", stopped); !strings.Contains(applied, "0026_audit was applied in") {
			t.Errorf("migrate:\n%s", applied)
		}
		runs(t, program, 0, "migrate", "--dry-run", "--database", stopped)
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		restored := pgtest.Database(t)
		restore, err := postgreSQLProgram("pg_restore")
		if err != nil {
			t.Fatal(err)
		}
		if err := command(t.Context(), ".", restore, "--no-owner", "--exit-on-error", "--single-transaction", "--dbname="+restored, "testdata/older.dump"); err != nil {
			t.Fatal(err)
		}
		dryRun := runs(t, program, 3, "migrate", "--dry-run", "--database", restored)
		if !strings.Contains(dryRun, "-- users: ACCESS EXCLUSIVE lock, reads and writes wait; the table has 0.") {
			t.Errorf("the dry run:\n%s", dryRun)
		}
		var found struct{ Pending []struct{ Name string } }
		if err := json.Unmarshal([]byte(runs(t, program, 3, "migrate", "--dry-run", "--json", "--database", restored)), &found); err != nil || len(found.Pending) < 6 {
			t.Errorf("the dry run as JSON: %d migrations, %v", len(found.Pending), err)
		}
		if applied := runs(t, program, 0, "migrate", "--database", restored); !strings.Contains(applied, "0026_audit was applied in") {
			t.Errorf("migrate:\n%s", applied)
		}
		runs(t, program, 0, "migrate", "--dry-run", "--database", restored)
		works(t, program, restored, "testdata/older.dump.json")
	})
}

// works starts a server on an upgraded database, and checks that users and clients go on.
func works(t *testing.T, program, database, had string) {
	t.Helper()
	text, err := os.ReadFile(had)
	if err != nil {
		t.Fatal(err)
	}
	var k kept
	if err := json.Unmarshal(text, &k); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "valetkey.yaml")
	if err := os.WriteFile(file, []byte(configuration(storedIssuer, database, k.PasswordHash, 0)), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := startNode(t.Context(), "newer", program, file)
	if err != nil {
		t.Fatal(err)
	}
	defer n.kill()
	transport := through(n)
	ada := newCustomer(transport, storedIssuer, "photos0", "ada0")
	ada.access, ada.refresh = k.Access, k.Refresh
	for name, step := range map[string]func() error{
		"the access token from before":    func() error { return ada.check(true) },
		"the refresh token from before":   ada.refreshed,
		"the session and the consent":     func() error { return ada.withCookies(k.Cookies) },
		"a new sign-in":                   func() error { return newCustomer(transport, storedIssuer, "photos0", "ada2").flow(0) },
		"tokens that were revoked before": (&customer{issuer: storedIssuer, clientID: "photos0", http: ada.http, refresh: k.Revoked[0], access: k.Revoked[1]}).ended,
		"a user who was disabled before is out": func() error {
			if err := newCustomer(transport, storedIssuer, "photos0", "ada1").signIn(false); err == nil {
				return errors.New("the user signs in")
			}
			return nil
		},
	} {
		if err := step(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := n.stop(); err != nil {
		t.Error(err)
	}
	if problems := n.problems(); len(problems) > 0 {
		t.Errorf("the log has errors:\n%s", strings.Join(problems, ""))
	}
	if verified := runs(t, program, 0, "audit", "verify", "--database", database); !strings.Contains(verified, "The chain is complete.") {
		t.Errorf("audit verify:\n%s", verified)
	}
}

// runs runs the program, which must end with an exit code, and returns what it prints.
func runs(t *testing.T, program string, code int, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), program, args...)
	c.Env = append(os.Environ(), "VALETKEY_MASTER_KEY="+masterKey)
	output, err := c.Output()
	var problems string
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		problems = string(exit.Stderr)
	}
	if got := c.ProcessState.ExitCode(); got != code {
		t.Fatalf("valetkey %s: exit code %d\n%s%s", strings.Join(args, " "), got, output, problems)
	}
	return string(output)
}

func unpacked(t *testing.T, file string) string {
	t.Helper()
	source, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	r, err := gzip.NewReader(source)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "backup.db")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

package main

import (
	"bytes"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An operator finds who changed what, and what someone else changed in the database.
func TestAuditCommands(t *testing.T) {
	dir := t.TempDir()
	config, checkpoints := filepath.Join(dir, "valetkey.yaml"), filepath.Join(dir, "checkpoints")
	text := "issuer: http://127.0.0.1:18999\ndatabase: sqlite:" + filepath.Join(dir, "v.db") + "\nusers:\n  - username: ada\n    password: engine no. 1 of 1837\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	do := func(want int, args ...string) string {
		t.Helper()
		var out, log bytes.Buffer
		if got := run(t.Context(), append(args, "--config", config), &out, &log); got != want {
			t.Fatalf("valetkey %v: exit code %d, want %d\n%s%s", args, got, want, &out, &log)
		}
		return out.String()
	}
	do(0, "apply", config)
	do(0, "users", "disable", "ada")
	list := do(0, "audit", "list", "--event", "user.*")
	if strings.Count(list, "operator ") != 2 || !strings.Contains(list, "user.disabled") || !strings.Contains(list, `username: – → "ada"`) || strings.Contains(list, "argon2") {
		t.Errorf("audit list: %s", list)
	}
	if err := os.WriteFile(checkpoints, []byte(do(0, "audit", "checkpoint")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := do(0, "audit", "verify", "--checkpoint", checkpoints); !strings.Contains(out, "All 1 checkpoints agree") {
		t.Errorf("audit verify: %s", out)
	}
	for _, format := range []string{"jsonl", "ocsf", "syslog"} {
		if out := do(0, "audit", "export", "--format", format); strings.Count(out, "\n") != 3 {
			t.Errorf("audit export --format %s: %s", format, out)
		}
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "v.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`DROP TRIGGER audit_records_append_only; UPDATE audit_records SET record = replace(record, 'ada', 'eve') WHERE event = 'user.disabled'`); err != nil {
		t.Fatal(err)
	}
	if out := do(1, "audit", "verify"); !strings.Contains(out, "✗ record 3: it was changed") {
		t.Errorf("audit verify after a change: %s", out)
	}
	do(2, "audit", "list", "--since", "yesterday")
}

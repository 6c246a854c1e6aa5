package database

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/valetkey/valetkey/configuration"
)

// Each restore keeps the database that it replaces, also if two are made in the same second.
func TestRestoresInTheSameSecondKeepEachDatabase(t *testing.T) {
	directory := t.TempDir()
	path, backup := filepath.Join(directory, "v.db"), filepath.Join(directory, "backup.db")
	c := &configuration.Configuration{Database: "sqlite:" + path}
	opened, err := Open(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := opened.Store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := BackUp(t.Context(), c, backup, nil); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	names := map[string]bool{}
	for _, content := range []string{"the first damaged database", "the second", "the third"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		kept, err := Restore(t.Context(), c, backup, true, now)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(kept); err != nil || string(got) != content || names[kept] {
			t.Errorf("%s has %q, not %q (%v)", kept, got, content, err)
		}
		names[kept] = true
	}
	// The name of a log is not free either: SQLite would apply the log to the database that is kept.
	log := path + ".before-" + now.Add(time.Second).UTC().Format("20060102T150405Z") + "-wal"
	if err := os.WriteFile(log, []byte("log"), 0o600); err != nil {
		t.Fatal(err)
	}
	kept, err := Restore(t.Context(), c, backup, true, now.Add(time.Second))
	if err != nil || kept+"-wal" == log {
		t.Errorf("kept as %s, next to a log of another database (%v)", kept, err)
	}
}

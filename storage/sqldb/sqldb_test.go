package sqldb

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/valetkey/valetkey/internal/pgtest"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/storagetest"
)

var testMasterKey = bytes.Repeat([]byte{7}, 32)

// openTest opens a store that is closed when the test ends.
func openTest(t testing.TB, databaseURL string) *Store {
	t.Helper()
	s, err := Open(t.Context(), databaseURL, Config{MasterKey: testMasterKey})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func sqliteURL(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "test.db") }

// Most tests get a copy of a database that was migrated once: the migrations take longer than the
// test. Tests of migrations begin with sqliteURL or pgtest.Database.
var (
	postgreSQLDatabase = pgtest.Template(migrateTemplate)
	sqliteTemplate     = sync.OnceValues(func() ([]byte, error) {
		dir, err := os.MkdirTemp("", "valetkey-sqldb-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		file := filepath.Join(dir, "template.db")
		if err := migrateTemplate("sqlite:" + file); err != nil {
			return nil, err
		}
		return os.ReadFile(file)
	})
)

func migrateTemplate(databaseURL string) error {
	s, err := Open(context.Background(), databaseURL, Config{MasterKey: testMasterKey})
	if err != nil {
		return err
	}
	return s.Close()
}

// sqliteDatabase returns the URL of a copy.
func sqliteDatabase(t testing.TB) string {
	t.Helper()
	return copyTemplate(t, t.TempDir())
}

func copyTemplate(t interface{ Fatal(...any) }, dir string) string {
	content, err := sqliteTemplate()
	if err != nil {
		t.Fatal(err)
	}
	return copyDatabase(t, dir, content)
}

func copyDatabase(t interface{ Fatal(...any) }, dir string, content []byte) string {
	file := filepath.Join(dir, storage.NewID()+".db")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return "sqlite:" + file
}

func TestStoreSQLite(t *testing.T) {
	storagetest.Store(t, func(t *testing.T) storagetest.Database { return openTest(t, sqliteDatabase(t)) })
}

func TestStoreSQLiteMemory(t *testing.T) {
	storagetest.Store(t, func(t *testing.T) storagetest.Database { return openTest(t, "sqlite::memory:") })
}

func TestStorePostgreSQL(t *testing.T) {
	storagetest.Store(t, func(t *testing.T) storagetest.Database { return openTest(t, postgreSQLDatabase(t)) })
}

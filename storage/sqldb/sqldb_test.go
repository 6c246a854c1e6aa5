package sqldb

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/valetkey/valetkey/internal/pgtest"
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

func TestStoreSQLite(t *testing.T) {
	storagetest.Store(t, func(t *testing.T) storagetest.Database { return openTest(t, sqliteURL(t)) })
}

func TestStoreSQLiteMemory(t *testing.T) {
	storagetest.Store(t, func(t *testing.T) storagetest.Database { return openTest(t, "sqlite::memory:") })
}

func TestStorePostgreSQL(t *testing.T) {
	storagetest.Store(t, func(t *testing.T) storagetest.Database { return openTest(t, pgtest.Database(t)) })
}

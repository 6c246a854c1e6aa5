package sqldb

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/valetkey/valetkey/internal/pgtest"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// onBoth runs a test on a new database of each kind.
func onBoth(t *testing.T, f func(t *testing.T, databaseURL string)) {
	t.Run("SQLite", func(t *testing.T) { f(t, sqliteURL(t)) })
	t.Run("PostgreSQL", func(t *testing.T) { f(t, pgtest.Database(t)) })
}

func TestReopenKeepsEverything(t *testing.T) {
	onBoth(t, func(t *testing.T, databaseURL string) {
		s, err := Open(t.Context(), databaseURL, Config{MasterKey: testMasterKey})
		if err != nil {
			t.Fatal(err)
		}
		secrets := storeSecrets(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openTest(t, databaseURL)
		if err := s.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		c, err := s.Client(t.Context(), "app")
		if err != nil || c.Secrets[0] != secrets.client {
			t.Errorf("client: %+v, %v", c, err)
		}
		keys, err := s.Keys(t.Context())
		if err != nil || len(keys) != 1 {
			t.Errorf("keys: %v, %v", keys, err)
		}
		if _, err := s.Get(t.Context(), testNow, storage.Kind("refresh").Hash(secrets.token)); err != nil {
			t.Errorf("ticket: %v", err)
		}
	})
}

func TestSG05_WrongMasterKeyIsRejected(t *testing.T) {
	wrong := Config{MasterKey: bytes.Repeat([]byte{8}, 32)}
	onBoth(t, func(t *testing.T, databaseURL string) {
		first, err := Open(t.Context(), databaseURL, Config{MasterKey: testMasterKey})
		if err != nil {
			t.Fatal(err)
		}
		storeSecrets(t, first)
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		before := contents(t, databaseURL)
		s, err := Open(t.Context(), databaseURL, wrong)
		if err == nil {
			s.Close()
			t.Fatal("the database opens with another master key")
		}
		if !strings.Contains(err.Error(), "master key is not the one") {
			t.Errorf("the error does not say what is wrong: %v", err)
		}
		if !bytes.Equal(before, contents(t, databaseURL)) {
			t.Error("the database was changed")
		}
		openTest(t, databaseURL) // it still opens with the first one
	})
	for _, key := range [][]byte{nil, make([]byte, 16), make([]byte, 33)} {
		if _, err := Open(t.Context(), sqliteURL(t), Config{MasterKey: key}); err == nil {
			t.Errorf("a master key of %d bytes is accepted", len(key))
		}
	}
}

// contents returns a hash of a SQLite file, or the rows of a PostgreSQL database.
func contents(t *testing.T, databaseURL string) []byte {
	t.Helper()
	path, ok := strings.CutPrefix(databaseURL, "sqlite:")
	if !ok {
		return []byte(dump(t, databaseURL))
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	return sum[:]
}

func TestNewerDatabaseIsRejected(t *testing.T) {
	onBoth(t, func(t *testing.T, databaseURL string) {
		s, err := Open(t.Context(), databaseURL, Config{MasterKey: testMasterKey})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.database.write().Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (4711, TRUE)`); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s, err = Open(t.Context(), databaseURL, Config{MasterKey: testMasterKey})
		if err == nil {
			s.Close()
			t.Fatal("a database of a newer program opens")
		}
		for _, version := range []string{"4711", "versions up to"} {
			if !strings.Contains(err.Error(), version) {
				t.Errorf("the error does not name %s: %v", version, err)
			}
		}
	})
}

func TestNodesThatStartTogetherMigrateOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, databaseURL string) {
		errs := make(chan error, 4)
		for range cap(errs) {
			go func() {
				s, err := Open(t.Context(), databaseURL, Config{MasterKey: testMasterKey})
				if err == nil {
					err = s.Close()
				}
				errs <- err
			}()
		}
		for range cap(errs) {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestSG07_DatabaseFilesAreReadableByTheirOwnerOnly(t *testing.T) {
	var log bytes.Buffer
	config := Config{MasterKey: testMasterKey, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	path := filepath.Join(t.TempDir(), "a ?#%file.db")
	s, err := Open(t.Context(), "sqlite:"+path, config)
	if err != nil {
		t.Fatal(err)
	}
	storeSecrets(t, s)
	checkModes := func() {
		t.Helper()
		for _, name := range []string{path, path + "-wal", path + "-shm"} {
			info, err := os.Stat(name)
			if err != nil {
				t.Error(err)
				continue
			}
			if info.Mode() != 0o600 {
				t.Errorf("%s has mode %v", filepath.Base(name), info.Mode())
			}
		}
	}
	checkModes()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(t.Context(), "sqlite:"+path, config); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	storeSecrets(t, s)
	checkModes()
	if !strings.Contains(log.String(), "readable by other users") {
		t.Error("the log does not report that other users could read the file")
	}
}

func TestSG09_PostgreSQLOnAnotherHostRequiresTLS(t *testing.T) {
	for _, databaseURL := range []string{
		"postgres://u@192.0.2.1/db?sslmode=disable",
		"postgres://u@192.0.2.1/db?sslmode=allow",
		"postgres://u@db.example/db?sslmode=disable",
	} {
		if _, err := Open(t.Context(), databaseURL, Config{MasterKey: testMasterKey}); err == nil || !strings.Contains(err.Error(), "not encrypted") {
			t.Errorf("%s: error %v", databaseURL, err)
		}
	}
	// The operator can allow it.
	for _, databaseURL := range []string{"postgres://u@192.0.2.1/db?sslmode=disable", "postgres://u@db.example/db?sslmode=prefer"} {
		config, err := pgx.ParseConfig(databaseURL)
		if err != nil {
			t.Fatal(err)
		}
		if err := requireTLS(config, true); err != nil {
			t.Errorf("%s: %v", databaseURL, err)
		}
		if config.TLSConfig != nil && len(config.Fallbacks) == 0 {
			t.Errorf("%s: it requires TLS", databaseURL)
		}
	}
	for databaseURL, want := range map[string]bool{
		"postgres://u@db.example/db":                          false,
		"postgres://u@db.example/db?sslmode=prefer":           false,
		"postgres://u@db.example/db?sslmode=require":          false,
		"postgres://u@a.example,b.example/db":                 false,
		"postgres://u@localhost/db?sslmode=disable":           true,
		"postgres://u@127.0.0.1/db?sslmode=disable":           true,
		"postgres://u@[::1]/db?sslmode=disable":               true,
		"postgres:///db?host=/run/postgresql&user=u":          true,
		"postgres://u@127.0.0.1,db.example/db?sslmode=prefer": true,
	} {
		config, err := pgx.ParseConfig(databaseURL)
		if err != nil {
			t.Fatal(err)
		}
		if err := requireTLS(config, false); err != nil {
			t.Errorf("%s: %v", databaseURL, err)
		}
		unencrypted := config.TLSConfig == nil
		for _, f := range config.Fallbacks {
			if f.TLSConfig == nil && !loopback(f.Host) {
				t.Errorf("%s: falls back to %s without TLS", databaseURL, f.Host)
			}
			unencrypted = unencrypted || f.TLSConfig == nil
		}
		if unencrypted != want {
			t.Errorf("%s: connects without TLS: %v, want %v", databaseURL, unencrypted, want)
		}
	}
}

func TestSG10_ErrorsDoNotContainThePassword(t *testing.T) {
	for _, databaseURL := range []string{
		"postgres://user:hunter2@127.0.0.1:1/db",
		"postgres://user:hunter2%zz@127.0.0.1/db",
		"postgres://user:hunter2@127.0.0.1:notaport/db",
		"postgres://user:hunter2@127.0.0.1/db?sslmode=hunter2",
		"postgres://user:hunter2@192.0.2.1/db?sslmode=disable",
		"postgres://user:hun ter2@127.0.0.1:1/db?password=hunter2",
		"mysql://user:hunter2@127.0.0.1/db",
		"hunter2",
		"",
	} {
		s, err := Open(t.Context(), databaseURL, Config{MasterKey: testMasterKey})
		if err == nil {
			s.Close()
			t.Fatalf("%q opens", databaseURL)
		}
		if strings.Contains(err.Error(), "ter2") {
			t.Errorf("%v", err)
		}
	}
}

func TestErrorsOfOpenNameTheCause(t *testing.T) {
	dir := t.TempDir()
	notADatabase := filepath.Join(dir, "text")
	if err := os.WriteFile(notADatabase, []byte(strings.Repeat("this is not a database. ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for databaseURL, words := range map[string]string{
		"sqlite:" + notADatabase:                       "not a database",
		"sqlite:" + filepath.Join(dir, "none", "a.db"): "no such file or directory",
		"sqlite:" + dir:                                "is a directory",
		"sqlite:":                                      "neither sqlite:PATH nor postgres://",
	} {
		s, err := Open(t.Context(), databaseURL, Config{MasterKey: testMasterKey})
		if err == nil {
			s.Close()
			t.Fatalf("%s opens", databaseURL)
		}
		if !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", databaseURL, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("Open created a directory")
	}
}

func TestClosedStoreFails(t *testing.T) {
	onBoth(t, func(t *testing.T, databaseURL string) {
		s, err := Open(t.Context(), databaseURL, Config{MasterKey: testMasterKey})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.Put(t.Context(), testNow, storage.Ticket{Key: storage.Kind("code").Hash("a"), Expires: testNow.Add(1e9)}); err == nil {
			t.Error("Put on a closed store succeeds")
		}
		if _, err := s.Get(t.Context(), testNow, storage.Kind("code").Hash("a")); err == nil || errors.Is(err, storage.ErrNotFound) {
			t.Errorf("Get on a closed store: %v", err)
		}
		if _, err := s.UpdateGrant(t.Context(), "s", "c", func(*record.Grant) error { return nil }); err == nil {
			t.Error("UpdateGrant on a closed store succeeds")
		}
		if err := s.Ping(t.Context()); err == nil {
			t.Error("Ping on a closed store succeeds")
		}
	})
}

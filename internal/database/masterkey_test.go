package database

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/valetkey/valetkey/configuration"
)

func TestSG07_TheMasterKeyIsReadableByItsOwnerOnly(t *testing.T) {
	c := &configuration.Configuration{Database: "sqlite:" + filepath.Join(t.TempDir(), "v.db")}
	key, err := masterKey(c)
	if err != nil {
		t.Fatal(err)
	}
	path := strings.TrimPrefix(c.Database, "sqlite:") + ".key"
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the key file has the mode %v (%v)", info.Mode(), err)
	}
	if again, err := masterKey(c); err != nil || !bytes.Equal(key, again) {
		t.Errorf("the second start uses a different key (%v)", err)
	}
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o660} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := masterKey(c); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("a key of mode %v: %v", mode, err)
		}
	}
}

func TestProcessesThatStartTogetherShareAMasterKey(t *testing.T) {
	c := &configuration.Configuration{Database: "sqlite:" + filepath.Join(t.TempDir(), "v.db")}
	keys := make([][]byte, 8)
	var wait sync.WaitGroup
	for i := range keys {
		wait.Go(func() {
			var err error
			if keys[i], err = masterKey(c); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	for _, key := range keys {
		if !bytes.Equal(key, keys[0]) {
			t.Fatal("two processes that start at the same time have different keys")
		}
	}
}

// A new key could not decrypt the database.
func TestSG05_LostMasterKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v.db")
	if err := os.WriteFile(path, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := masterKey(&configuration.Configuration{Database: "sqlite:" + path})
	if err == nil || !strings.Contains(err.Error(), "restore it") {
		t.Errorf("the error is %v", err)
	}
	if _, err := os.Stat(path + ".key"); err == nil {
		t.Error("a new key was created for a database with another key")
	}
}

func TestMasterKeySources(t *testing.T) {
	if _, err := masterKey(&configuration.Configuration{Database: "postgres://db/v"}); err == nil || !strings.Contains(err.Error(), "VALETKEY_MASTER_KEY") {
		t.Errorf("PostgreSQL without a master key: %v", err)
	}
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(strings.Repeat("A", 43)+"=\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &configuration.Configuration{Database: "postgres://db/v", MasterKeyFile: file}
	if key, err := masterKey(c); err != nil || !bytes.Equal(key, make([]byte, 32)) {
		t.Errorf("master_key_file gives %x (%v)", key, err)
	}
	t.Setenv("VALETKEY_MASTER_KEY", "short")
	if _, err := masterKey(c); err == nil || strings.Contains(err.Error(), "short") {
		t.Errorf("a short key: %v", err)
	}
}

func TestDerivedKeysDiffer(t *testing.T) {
	a, err := Derive(make([]byte, 32), "one")
	if err != nil {
		t.Fatal(err)
	}
	b, err := Derive(make([]byte, 32), "two")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(a, b) || len(a) != 32 {
		t.Error("keys for two purposes are the same")
	}
}

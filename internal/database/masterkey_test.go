package database

import (
	"bytes"
	"encoding/base64"
	"io/fs"
	"log/slog"
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

// keyPlaces put a master key where a program finds it, as the present or as the previous one.
var keyPlaces = map[string]func(t *testing.T, c *configuration.Configuration, previous bool, key string){
	"environment": func(t *testing.T, _ *configuration.Configuration, previous bool, key string) {
		name := configuration.MasterKeyVariable
		if previous {
			name = configuration.PreviousMasterKeyVariable
		}
		t.Setenv(name, key)
	},
	"file": func(t *testing.T, c *configuration.Configuration, previous bool, key string) {
		file := &c.MasterKeyFile
		if previous {
			file = &c.PreviousMasterKeyFile
		}
		*file = writeKey(t, t.TempDir(), "key", key)
	},
	"command": func(t *testing.T, c *configuration.Configuration, previous bool, key string) {
		command := &c.MasterKeyCommand
		if previous {
			command = &c.PreviousMasterKeyCommand
		}
		*command = []string{"printf", "%s\n", key}
	},
	"credential": func(t *testing.T, _ *configuration.Configuration, previous bool, key string) {
		directory := os.Getenv("CREDENTIALS_DIRECTORY")
		if directory == "" {
			directory = t.TempDir()
			t.Setenv("CREDENTIALS_DIRECTORY", directory)
		}
		name := masterKeyCredential
		if previous {
			name = previousMasterKeyCredential
		}
		writeKey(t, directory, name, key)
	},
	"next to the database": func(t *testing.T, c *configuration.Configuration, previous bool, key string) {
		path := strings.TrimPrefix(c.Database, "sqlite:")
		name := filepath.Base(path) + ".key"
		if previous {
			name += PreviousSuffix
		}
		writeKey(t, filepath.Dir(path), name, key)
	},
}

func writeKey(t *testing.T, directory, name, key string) string {
	t.Helper()
	path := filepath.Join(directory, name)
	if err := os.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The new and the previous master key come from every pair of places; the database is rotated, and opens
// with the new one.
func TestRotationWithKeysFromEveryPlace(t *testing.T) {
	first, second := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32)), base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{2}, 32))
	for present, putPresent := range keyPlaces {
		for previous, putPrevious := range keyPlaces {
			if previous == "next to the database" && present != previous {
				continue // the guide: it is there only if the master key is
			}
			t.Run(present+", previous "+previous, func(t *testing.T) {
				for _, name := range []string{configuration.MasterKeyVariable, configuration.PreviousMasterKeyVariable, "CREDENTIALS_DIRECTORY"} {
					t.Setenv(name, "")
				}
				c := configuration.Configuration{Database: "sqlite:" + filepath.Join(t.TempDir(), "v.db")}
				open := func(c configuration.Configuration) *Database {
					t.Helper()
					d, err := Open(t.Context(), &c, slog.New(slog.DiscardHandler))
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() {
						if err := d.Close(); err != nil {
							t.Error(err)
						}
					})
					return d
				}
				before := c
				before.MasterKeyFile = writeKey(t, t.TempDir(), "first", first)
				secret := open(before).Secret

				after := c
				putPresent(t, &after, false, second)
				both := after
				putPrevious(t, &both, true, first)
				d := open(both)
				if !d.HasPreviousMasterKey() || len(d.MasterSecrets()) != 2 {
					t.Fatal("the previous master key is not found")
				}
				found, err := InspectMasterKeys(t.Context(), &both)
				if err != nil || !found.Previous || found.PreviousAt == "" {
					t.Errorf("before the rotation: %+v, %v", found, err)
				}
				if sealed, err := d.RotateMasterKey(t.Context(), nil); err != nil || !sealed.Previous {
					t.Fatalf("%+v, %v", sealed, err)
				}
				if found, err := InspectMasterKeys(t.Context(), &both); err != nil || found.NeedsPrevious() || found.PreviousAt == "" {
					t.Errorf("after the rotation: %+v, %v", found, err)
				}
				after.MasterKeyFile = writeKey(t, t.TempDir(), "second", second)
				after.MasterKeyCommand = nil
				if d := open(after); !bytes.Equal(d.Secret, secret) {
					t.Error("the secret of the server has changed")
				}
			})
		}
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

package sqldb

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valetkey/valetkey/storage"
)

// A backup of a database that is being written to has everything that was acknowledged before it began.
func TestBackupHasEverythingThatWasAcknowledged(t *testing.T) {
	directory := t.TempDir()
	s := openTest(t, "sqlite:"+filepath.Join(directory, "valetkey.db"))
	secrets := storeSecrets(t, s)
	var acknowledged atomic.Int64
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for writer := range 4 {
		writers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				n := writer*1_000_000 + i
				if err := s.Put(t.Context(), testNow, ticketNumber(n)); err != nil {
					t.Error(err)
					return
				}
				if writer == 0 {
					acknowledged.Store(int64(n + 1))
				}
			}
		})
	}
	for acknowledged.Load() < 200 {
		time.Sleep(time.Millisecond) // waits for the writers, not for time to pass
	}
	before := int(acknowledged.Load())
	to := filepath.Join(directory, "backup.db")
	if err := BackUp(t.Context(), filepath.Join(directory, "valetkey.db"), to, nil); err != nil {
		t.Fatal(err)
	}
	close(stop)
	writers.Wait()
	info, err := os.Stat(to)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	content, err := os.ReadFile(to)
	if err != nil || bytes.Contains(content, testMasterKey) || bytes.Contains(content, []byte(secrets.client)) {
		t.Errorf("the backup contains a secret in clear: %v", err)
	}
	if err := CheckBackup(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	restored, err := Open(t.Context(), "sqlite:"+to, Config{MasterKey: testMasterKey})
	if err != nil {
		t.Fatal(err)
	}
	defer restored.Close()
	if c, err := restored.Client(t.Context(), "app"); err != nil || c.Secrets[0] != secrets.client {
		t.Errorf("client %+v, %v", c, err)
	}
	for n := range before {
		if _, err := restored.Get(t.Context(), testNow, ticketNumber(n).Key); err != nil {
			t.Fatalf("ticket %d of %d: %v", n, before, err)
		}
	}
}

func ticketNumber(n int) storage.Ticket {
	return storage.Ticket{Key: storage.Kind("backup").Hash(fmt.Sprint(n)), Expires: testNow.Add(time.Hour)}
}

func TestBackupReplacesNothing(t *testing.T) {
	directory := t.TempDir()
	path := filepath.Join(directory, "valetkey.db")
	openTest(t, "sqlite:"+path)
	to := filepath.Join(directory, "backup.db")
	if err := os.WriteFile(to, []byte("another file"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := BackUp(t.Context(), path, to, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("error %v", err)
	}
	if content, err := os.ReadFile(to); err != nil || string(content) != "another file" {
		t.Errorf("the file was changed: %q, %v", content, err)
	}
	if _, err := os.Stat(to + ".partial"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a partial file is left: %v", err)
	}
	if err := BackUp(t.Context(), filepath.Join(directory, "missing.db"), filepath.Join(directory, "new.db"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestDamagedAndForeignBackupsAreRefused(t *testing.T) {
	directory := t.TempDir()
	path, to := filepath.Join(directory, "valetkey.db"), filepath.Join(directory, "backup.db")
	storeSecrets(t, openTest(t, "sqlite:"+path))
	if err := BackUp(t.Context(), path, to, nil); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(content)
	for i := 8192; i < 8192+512; i++ {
		damaged[i] ^= 0xff
	}
	for name, file := range map[string][]byte{
		"empty": {}, "text": []byte(strings.Repeat("not a database ", 1000)), "half": content[:len(content)/2],
		"all but a page": content[:len(content)-4096], "damaged": damaged,
	} {
		broken := filepath.Join(directory, strings.ReplaceAll(name, " ", "-"))
		if err := os.WriteFile(broken, file, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := CheckBackup(t.Context(), broken); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestADatabaseInUseIsNotReleased(t *testing.T) {
	path := filepath.Join(t.TempDir(), "valetkey.db")
	s, err := Open(t.Context(), "sqlite:"+path, Config{MasterKey: testMasterKey})
	if err != nil {
		t.Fatal(err)
	}
	if err := Release(t.Context(), path); err == nil || !strings.Contains(err.Error(), "stop the server first") {
		t.Errorf("error %v", err)
	}
	storeSecrets(t, s) // it still works
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Release(t.Context(), path); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path + "-wal"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is still a log: %v", err)
	}
}

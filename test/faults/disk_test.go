package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/sqldb"
)

// On a full disk, writes fail and reads succeed. Writes succeed again once there is free space.
func TestRE04_DiskFull(t *testing.T) {
	databaseURL := "sqlite:" + filepath.Join(t.TempDir(), "test.db")
	c := start(t, "disk", func(command *exec.Cmd) {
		command.Env = append(command.Env, databaseVariable+"="+databaseURL)
	})
	if err := <-c.ended; err != nil {
		t.Fatalf("%v\n%s", err, c.stderr.String())
	}
	checkIntegrity(t, databaseURL)
}

// fillDisk runs in a separate process, whose files must not grow beyond a limit: to SQLite, that
// looks like a full disk.
func fillDisk() error {
	signal.Ignore(syscall.SIGXFSZ)
	ctx, now := context.Background(), time.Now()
	store, err := sqldb.Open(ctx, os.Getenv(databaseVariable), sqldb.Config{MasterKey: masterKey})
	if err != nil {
		return err
	}
	ticket := func(i int) storage.Ticket {
		return storage.Ticket{Key: refresh.Hash(fmt.Sprint(i)), Data: make([]byte, 2000), Expires: now.Add(time.Hour)}
	}
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		return err
	}
	const maxTickets = 1000 // would be 2 MB
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 1 << 20, Max: before.Max}); err != nil {
		return err
	}
	stored := 0
	for ; stored < maxTickets; stored++ {
		if err = store.Put(ctx, now, ticket(stored)); err != nil {
			break
		}
	}
	if err == nil || errors.Is(err, storage.ErrExists) {
		return fmt.Errorf("the disk is not full after %d tickets: %w", stored, err)
	}
	if err := store.Spend(ctx, now, []storage.Key{ticket(0).Key}, ticket(maxTickets), ticket(maxTickets+1), ticket(maxTickets+2)); err == nil {
		return errors.New("a write succeeds on a full disk")
	}
	if err := readAll(ctx, store, stored, ticket); err != nil {
		return fmt.Errorf("on the full disk: %w", err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		return err
	}
	if err := readAll(ctx, store, stored, ticket); err != nil {
		return fmt.Errorf("with free space again: %w", err)
	}
	if err := store.Spend(ctx, now, []storage.Key{ticket(0).Key}, ticket(maxTickets)); err != nil {
		return fmt.Errorf("write with free space again: %w", err)
	}
	return store.Close()
}

func readAll(ctx context.Context, store *sqldb.Store, stored int, ticket func(int) storage.Ticket) error {
	for i := range stored {
		got, err := store.Get(ctx, time.Now(), ticket(i).Key)
		if err != nil {
			return fmt.Errorf("ticket %d of %d: %w", i, stored, err)
		}
		if !got.Spent.IsZero() {
			return fmt.Errorf("ticket %d is spent", i)
		}
	}
	return nil
}

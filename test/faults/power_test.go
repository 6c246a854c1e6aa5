package faults

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/sqldb"
)

// writeSlowly stores one ticket after the other and acknowledges each.
func writeSlowly() error {
	store, err := sqldb.Open(context.Background(), os.Getenv(databaseVariable), sqldb.Config{MasterKey: masterKey})
	if err != nil {
		return err
	}
	for n := range 200 {
		l, now := link{n: n}, time.Now()
		if n == 0 {
			err = store.Put(context.Background(), now, l.tickets(now)...)
		} else {
			err = store.Spend(context.Background(), now, []storage.Key{link{n: n - 1}.key(refresh)}, l.tickets(now)...)
		}
		if err == nil {
			err = acknowledge(l)
		}
		if err != nil {
			return err
		}
	}
	return store.Close()
}

// A line of strace: the thread, and a call that is complete, that begins, or that ends.
var (
	callLine   = regexp.MustCompile(`^(\d+) +(\w+)\((\d+)<([^>]*)>`)
	resumeLine = regexp.MustCompile(`^(\d+) +<\.\.\. (\w+) resumed>`)
)

// It watches the system calls of a store: when the store acknowledges a write, everything of it
// has been synced, so that a power failure loses nothing.
func TestRE02_AcknowledgedWritesAreOnDisk(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("strace is not installed")
		}
		t.Skip("strace is not installed")
	}
	if output, err := exec.Command(strace, "-f", "true").CombinedOutput(); err != nil {
		t.Skipf("strace is not permitted here: %v\n%s", err, output)
	}
	dir := t.TempDir()
	seen := filepath.Join(dir, "calls")
	stdout, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, stdout)
	c := start(t, "slow", func(command *exec.Cmd) {
		command.Env = append(command.Env, databaseVariable+"=sqlite:"+filepath.Join(dir, "test.db"))
		command.Args = append([]string{strace, "-f", "-y", "-s", "0", "-e", "signal=none", "-e", "trace=write,pwrite64,fsync,fdatasync", "-o", seen}, command.Path)
		command.Path = strace
		command.Stdout = pipe
	})
	pipe.Close()
	if err := <-c.ended; err != nil {
		t.Fatalf("%v\n%s", err, c.stderr.String())
	}
	stdout.Close()
	calls, err := os.ReadFile(seen)
	if err != nil {
		t.Fatal(err)
	}
	dirty := map[string]bool{}     // files with writes that may not be on disk yet
	syncing := map[string]string{} // by thread
	written, acknowledged := 0, 0
	for line := range strings.Lines(string(calls)) {
		if m := resumeLine.FindStringSubmatch(line); m != nil {
			if m[2] == "fsync" || m[2] == "fdatasync" {
				delete(dirty, syncing[m[1]])
			}
			continue
		}
		m := callLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		thread, call, descriptor, file := m[1], m[2], m[3], m[4]
		switch {
		case call == "write" && descriptor == "1":
			acknowledged++
			// The data file is written from the log, which is kept until the data file is synced.
			if wal := filepath.Join(dir, "test.db-wal"); dirty[wal] {
				t.Fatalf("acknowledgment %d came before %s was synced", acknowledged, wal)
			}
		case call == "write" || call == "pwrite64":
			dirty[file] = true
			if strings.HasSuffix(file, "-wal") {
				written++
			}
		case strings.Contains(line, "unfinished"):
			syncing[thread] = file
		default:
			delete(dirty, file)
		}
	}
	if acknowledged != 200 || written < 200 {
		t.Errorf("%d acknowledgments and %d writes to the log were seen", acknowledged, written)
	}
	t.Logf("%d acknowledgments, %d writes to the log", acknowledged, written)
}

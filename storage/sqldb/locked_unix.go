//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package sqldb

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// locked reports whether another process has a lock on a file. SQLite in WAL mode has one as long as the
// database is open.
func locked(path string) (bool, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer file.Close()
	lock := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart}
	if err := syscall.FcntlFlock(file.Fd(), syscall.F_GETLK, &lock); err != nil {
		return false, fmt.Errorf("find out who uses %s: %w", path, err)
	}
	return lock.Type != syscall.F_UNLCK, nil
}

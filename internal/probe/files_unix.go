//go:build unix

package probe

import (
	"os"
	"syscall"
)

// OpenFiles returns how many files the process has open and how many it may have; zero if that is not
// known.
func OpenFiles() (open int, limit uint64) {
	var limits syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limits) == nil {
		limit = uint64(limits.Cur)
	}
	if dir, err := os.Open("/proc/self/fd"); err == nil {
		defer dir.Close()
		if names, err := dir.Readdirnames(0); err == nil {
			open = len(names) - 1 // without dir
		}
	}
	return open, limit
}

//go:build linux || darwin

package doctor

import (
	"fmt"
	"syscall"
)

// freeDisk returns how many bytes of the disk of a directory an unprivileged program can still write,
// and its size.
func freeDisk(path string) (free, total uint64, err error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return 0, 0, fmt.Errorf("look at the disk of %s: %w", path, err)
	}
	return s.Bavail * uint64(s.Bsize), s.Blocks * uint64(s.Bsize), nil
}

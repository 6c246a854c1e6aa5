// Package sandbox restricts what this process can do with files from now on, with the
// Landlock of the Linux kernel. A hole in the server is then worth less: who gets through it can read
// and write only what the server needs.
//
//	sandbox.go        Policy
//	paths.go          the directories that a configuration names
//	landlock_linux.go Landlock
package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Policy says what the process needs.
type Policy struct {
	// Read are directories and files that it reads, and Write are directories that it also writes to.
	// What does not exist is ignored. A directory includes everything below it.
	Read, Write []string
	// Execute allows programs in the directories of the system.
	Execute bool
}

// systemDirectories are read by the standard library and by SQLite: names of hosts, certificate
// authorities, time zones, limits of the process. They include where systemd, containers and
// Kubernetes put secrets and the sockets of databases.
var systemDirectories = []string{"/etc", "/usr", "/lib", "/lib64", "/bin", "/sbin", "/run", "/var/run", "/proc", "/sys", "/dev"}

// temporaryDirectories are where SQLite keeps large intermediate results.
func temporaryDirectories() []string { return []string{os.TempDir(), "/var/tmp", "/tmp"} }

// existing returns the paths that exist, without duplicates. The root is not among them: to allow it
// would allow everything.
func existing(paths []string) (found []string) {
	for _, path := range paths {
		path, err := filepath.Abs(path)
		if err != nil || path == "/" {
			continue
		}
		if _, err := os.Stat(path); err == nil {
			found = append(found, path)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// Level is how much the kernel supports.
type Level int

// String describes a level for the log.
func (l Level) String() string {
	if l == 0 {
		return "none"
	}
	return fmt.Sprintf("Landlock ABI %d", int(l))
}

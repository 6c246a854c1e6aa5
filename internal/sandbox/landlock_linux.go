package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/landlock-lsm/go-landlock/landlock"
	landlocksyscall "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

const (
	readFiles   = landlocksyscall.AccessFSReadFile | landlocksyscall.AccessFSReadDir
	runPrograms = readFiles | landlocksyscall.AccessFSExecute
	writeFiles  = readFiles | landlocksyscall.AccessFSWriteFile | landlocksyscall.AccessFSTruncate |
		landlocksyscall.AccessFSRemoveFile | landlocksyscall.AccessFSRemoveDir |
		landlocksyscall.AccessFSMakeReg | landlocksyscall.AccessFSMakeDir
	// readOneFile and writeOneFile are what there is to allow for a path that is not a directory.
	readOneFile  = landlocksyscall.AccessFSReadFile
	writeOneFile = readOneFile | landlocksyscall.AccessFSWriteFile | landlocksyscall.AccessFSTruncate
)

// Restrict restricts this process, with all its threads and later children, for good. Files and sockets
// that are open stay open. It returns how much the kernel supports: on an old kernel less is
// restricted, or nothing. After an error, nothing is restricted.
func Restrict(policy Policy) (Level, error) {
	for _, path := range policy.Write {
		if path, err := filepath.Abs(path); err != nil || path == "/" {
			return 0, errors.New("restrict the process: the server writes to the root directory; put the database into a directory of its own")
		}
	}
	version, err := landlocksyscall.LandlockGetABIVersion()
	if err != nil || version < 1 {
		return 0, nil // the kernel does not have it, or it is not enabled
	}
	// Sockets are not restricted: clients choose where their documents are, and Landlock does not know
	// MPTCP, with which every port could be opened anyway.
	config, err := landlock.NewConfig(landlock.AccessFSSet(fileAccess))
	if err != nil {
		return 0, fmt.Errorf("restrict the process: %w", err)
	}
	system := landlock.AccessFSSet(readFiles)
	if policy.Execute {
		system = runPrograms
	}
	var rules []landlock.Rule
	add := func(directory, file landlock.AccessFSSet, paths []string) {
		for _, path := range paths {
			access := directory
			if info, err := os.Stat(path); err == nil && !info.IsDir() {
				access = file
			}
			rules = append(rules, landlock.PathAccess(access, path))
		}
	}
	add(system, readOneFile, existing(systemDirectories))
	add(readFiles, readOneFile, existing(policy.Read))
	add(writeFiles, writeOneFile, existing(append(temporaryDirectories(), policy.Write...)))
	add(writeFiles, writeOneFile, existing([]string{os.DevNull}))
	if err := config.BestEffort().Restrict(rules...); err != nil {
		return 0, fmt.Errorf("restrict the process: %w", err)
	}
	return Level(version), nil
}

// fileAccess is everything that can be forbidden about files, up to ABI 5.
const fileAccess = landlocksyscall.AccessFSExecute | landlocksyscall.AccessFSWriteFile | landlocksyscall.AccessFSReadFile |
	landlocksyscall.AccessFSReadDir | landlocksyscall.AccessFSRemoveDir | landlocksyscall.AccessFSRemoveFile |
	landlocksyscall.AccessFSMakeChar | landlocksyscall.AccessFSMakeDir | landlocksyscall.AccessFSMakeReg |
	landlocksyscall.AccessFSMakeSock | landlocksyscall.AccessFSMakeFifo | landlocksyscall.AccessFSMakeBlock |
	landlocksyscall.AccessFSMakeSym | landlocksyscall.AccessFSTruncate | landlocksyscall.AccessFSIoctlDev

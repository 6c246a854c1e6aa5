package systemd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

// firstFile is the number of the first file that systemd passes.
const firstFile = 3

// maxFiles limits how many files are accepted.
const maxFiles = 64

// Listeners returns the sockets that systemd has opened for this process, by the names of
// FileDescriptorName=; nil if there are none. It removes the variables, so that a second call returns
// none.
func Listeners() (map[string]net.Listener, error) {
	pid, count, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		if err := os.Unsetenv(name); err != nil {
			return nil, err
		}
	}
	if pid != strconv.Itoa(os.Getpid()) {
		return nil, nil // none, or for another process
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > maxFiles {
		return nil, fmt.Errorf("LISTEN_FDS: %q is not a number of files", count)
	}
	named := strings.Split(names, ":")
	listeners := map[string]net.Listener{}
	for i := range n {
		name := "unknown"
		if i < len(named) && named[i] != "" {
			name = named[i]
		}
		listener, err := listener(firstFile+i, name)
		if err == nil && listeners[name] != nil {
			err = errors.Join(errors.New("two sockets have this name; use FileDescriptorName="), listener.Close())
		}
		if err != nil {
			for _, l := range listeners {
				err = errors.Join(err, l.Close())
			}
			return nil, fmt.Errorf("use the socket %s of systemd: %w", name, err)
		}
		listeners[name] = listener
	}
	return listeners, nil
}

// listener returns the listener of a file. The file itself is closed, because child processes would
// inherit it.
func listener(number int, name string) (net.Listener, error) {
	file := os.NewFile(uintptr(number), name)
	if file == nil {
		return nil, errors.New("the file is not open")
	}
	listener, err := net.FileListener(file) // a copy that is closed on exec
	return listener, errors.Join(err, file.Close())
}

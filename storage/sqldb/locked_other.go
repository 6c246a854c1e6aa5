//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package sqldb

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// locked returns an error if a file exists, because it cannot know who uses it.
func locked(path string) (bool, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return false, fmt.Errorf("cannot find out who uses %s: stop the server, and move the file away", path)
}

package configuration

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/storage/record"
)

// MaxBytes is the size of the largest configuration file that is read.
const MaxBytes = 16 << 20

// ErrEmpty is the error for a configuration file without content: it is empty or contains
// only comments. Such a file is more likely truncated than intended; "clients: []" says
// that there are none.
var ErrEmpty = errors.New("the file is empty or contains only comments")

// Read reads a configuration file and the environment. The error lists every problem, with
// file and line.
func Read(path string) (Configuration, error) {
	text, err := readText(path)
	if err != nil {
		return Configuration{}, err
	}
	c, err := Parse(path, text)
	c.Modified = c.lastModified(path)
	return c, err
}

// Parse is Read for a text that was read already. Errors name it by the base of path.
func Parse(path string, text []byte) (Configuration, error) {
	c, err := parse(filepath.Base(path), text, true)
	if err != nil {
		return c, err
	}
	return c, c.overlay(os.LookupEnv)
}

// ReadDeclarations reads a file of declarations, which may be a whole configuration. Names
// that it refers to may be declared in another file or be in the database.
func ReadDeclarations(path string) (Configuration, error) {
	text, err := readText(path)
	if err != nil {
		return Configuration{}, err
	}
	c, err := parse(filepath.Base(path), text, false)
	c.Modified = c.lastModified(path)
	return c, err
}

// readText reads a configuration file, which may be a pipe.
func readText(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return text, nil
}

// parse reads the text of a configuration file. Unknown keys, repeated keys, values of the
// wrong type and values that no server could use are errors with their lines. With alone,
// everything that the declarations refer to must be among them.
func parse(name string, text []byte, alone bool) (Configuration, error) {
	var c Configuration
	if len(text) > MaxBytes {
		return c, fmt.Errorf("%s is larger than 16 MiB", name)
	}
	d := yamlDecoder{name: name, lines: map[string]int{}}
	d.decode(text, &c)
	if len(d.problems) == 0 {
		c.readSecretFiles(d.report)
	}
	if len(d.problems) == 0 {
		c.validate(d.report)
		if alone {
			own := record.Resource{Identifier: c.Issuer + api.Path}
			c.Declarations.checkReferences(&Declarations{Resources: []record.Resource{own}}, d.report)
		}
	}
	return c, errors.Join(d.problems...)
}

// lastModified returns the latest modification time of a file and of the files that contain
// the secrets of its declarations; zero if it is unknown.
func (d *Declarations) lastModified(path string) time.Time {
	var last time.Time
	for _, path := range append(d.SecretFiles(), path) {
		info, err := os.Stat(path)
		if err == nil && info.Mode().IsRegular() && info.ModTime().After(last) {
			last = info.ModTime().Truncate(time.Millisecond)
		}
	}
	return last
}

// Command testcount reads the output of "go test -json", shows a line for each package,
// the whole output of what failed, and what tests logged with "note: ". It ends with the
// count of tests. It fails if a test failed, if a package never ended, if nothing ran, and
// if a test was skipped that the file of -skips does not name.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	path := flag.String("skips", "", "a `file` that names the tests that may be skipped")
	flag.Parse()
	if err := run(os.Stdin, os.Stdout, *path); err != nil {
		fmt.Fprintln(os.Stderr, "testcount:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer, path string) error {
	allowed := map[string]string{}
	if path != "" {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		if allowed, err = readSkips(file); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return count(in, out, allowed, path)
}

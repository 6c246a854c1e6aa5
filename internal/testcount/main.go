// Command testcount reads the output of "go test -json". It prints a line for each package, the
// complete output of failed tests, log lines of tests that start with "note: ", and finally the
// number of tests. It fails if a test failed, if a package did not end, if no test ran, and if a
// test was skipped that is not in the file of -skips.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	path := flag.String("skips", "", "a `file` with the tests that may be skipped")
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

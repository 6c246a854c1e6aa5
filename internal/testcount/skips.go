package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// readSkips returns the tests that may be skipped, by package and name. A line has both and the
// reason. Lines that start with # are comments.
func readSkips(in io.Reader) (map[string]string, error) {
	allowed := map[string]string{}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 3 {
			return nil, fmt.Errorf("%q must have a package, a test and a reason", line)
		}
		allowed[fields[0]+" "+fields[1]] = strings.Join(fields[2:], " ")
	}
	return allowed, lines.Err()
}

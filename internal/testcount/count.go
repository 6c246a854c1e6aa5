package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

// count prints the events that it reads. Skipped tests must be in allowed, and the tests in
// allowed must exist. path is the file that allowed was read from, "" if every test may be
// skipped.
func count(in io.Reader, out io.Writer, allowed map[string]string, path string) error {
	counts := map[string]int{}
	output := map[string][]string{} // by package and test
	running := map[string]bool{}    // packages
	seen := map[string]bool{}
	var notes, problems []string
	skipped := map[string]string{} // with the reason
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Action == "" {
			fmt.Fprintln(out, lines.Text())
			continue
		}
		name := e.Package + " " + e.Test
		seen[name], seen[e.Package+" "] = true, true
		switch e.Action {
		case "start":
			running[e.Package] = true
		case "output", "build-output":
			output[name] = append(output[name], e.Output)
			if _, note, ok := strings.Cut(e.Output, ": note: "); ok {
				notes = append(notes, "note "+name+": "+strings.TrimSpace(note))
			}
			if e.Action == "build-output" {
				fmt.Fprint(out, e.Output)
			}
		case "pass", "fail", "skip":
			if e.Test == "" {
				delete(running, e.Package)
				fmt.Fprintf(out, "%-4s %s %.1fs\n", e.Action, e.Package, e.Elapsed)
				if e.Action == "fail" {
					problems = append(problems, e.Package+" failed")
				}
			} else {
				counts[e.Action]++
			}
			if e.Action == "fail" {
				fmt.Fprint(out, strings.Join(output[name], ""))
			}
			if e.Action == "skip" && e.Test != "" {
				skipped[name] = reason(output[name])
			}
			delete(output, name)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the events: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(running)) {
		problems = append(problems, name+" did not end")
	}
	for _, name := range slices.Sorted(maps.Keys(skipped)) {
		fmt.Fprintf(out, "skip %s: %s\n", name, skipped[name])
		if path != "" && allowed[name] == "" {
			problems = append(problems, fmt.Sprintf("%s was skipped, which %s does not allow", name, path))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(allowed)) {
		if tested, _, _ := strings.Cut(name, " "); seen[tested+" "] && !seen[name] {
			problems = append(problems, fmt.Sprintf("%s lists %s, which does not exist", path, name))
		}
	}
	fmt.Fprint(out, strings.Join(append(notes, ""), "\n"))
	if counts["pass"] == 0 {
		problems = append(problems, "no test passed")
	}
	fmt.Fprint(out, strings.Join(append(problems, ""), "\n"))
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", counts["pass"], counts["fail"], counts["skip"])
	if len(problems) > 0 {
		return errors.New(problems[0])
	}
	return nil
}

// reason returns the message of a skipped test.
func reason(lines []string) string {
	for _, line := range lines {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			return line
		}
	}
	return "no reason given"
}

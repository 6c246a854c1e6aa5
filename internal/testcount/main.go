// Command testcount reads the output of "go test -json", shows a line a package, the whole
// output of what failed, and what tests logged with "note: ", and ends with the count of
// tests.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
)

type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

func main() {
	count := map[string]int{}
	output := map[string][]string{} // by package and test
	var skipped, notes []string
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	broken := false
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Action == "" {
			fmt.Println(lines.Text())
			continue
		}
		name := e.Package + " " + e.Test
		switch e.Action {
		case "output", "build-output":
			output[name] = append(output[name], e.Output)
			if _, note, ok := strings.Cut(e.Output, ": note: "); ok {
				notes = append(notes, "note "+name+": "+strings.TrimSpace(note))
			}
			if e.Action == "build-output" {
				fmt.Print(e.Output)
			}
		case "pass", "fail", "skip":
			if e.Test == "" {
				fmt.Printf("%-4s %s %.1fs\n", e.Action, e.Package, e.Elapsed)
				broken = broken || e.Action == "fail"
			} else {
				count[e.Action]++
			}
			if e.Action == "fail" {
				fmt.Print(strings.Join(output[name], ""))
			}
			if e.Action == "skip" && e.Test != "" {
				skipped = append(skipped, fmt.Sprintf("skip %s: %s", name, reason(output[name])))
			}
			delete(output, name)
		}
	}
	slices.Sort(skipped)
	fmt.Print(strings.Join(append(append(skipped, notes...), ""), "\n"))
	fmt.Printf("%d passed, %d failed, %d skipped\n", count["pass"], count["fail"], count["skip"])
	if broken || count["fail"] > 0 || count["pass"] == 0 || lines.Err() != nil {
		os.Exit(1)
	}
}

// reason is what a skipped test said.
func reason(lines []string) string {
	for _, line := range lines {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			return line
		}
	}
	return "without a reason"
}

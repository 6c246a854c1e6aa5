package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
)

// The figures in a file are between these lines.
const (
	figuresBegin = "<!-- figures: written by go run ./test/load -publish -->"
	figuresEnd   = "<!-- end of figures -->"
)

// longestPublished is how long a measurement takes at most. The process has used hundreds of ticks of
// CPU time by then. repeatedPublished is how much time may be spent on measurements that are repeated
// because a scenario was above its limit.
const (
	longestPublished  = 3 * time.Second
	repeatedPublished = 100 * time.Second
)

// publish measures SQLite, and PostgreSQL with 1, 2 and 4 nodes, and replaces the figures in a
// file, after each scenario. It writes them even if a scenario is above its limit.
func publish(ctx context.Context, o options) error {
	content, err := os.ReadFile(o.Publish)
	if err != nil {
		return err
	}
	if withFigures(content, "") == nil {
		return fmt.Errorf("%s does not have the lines %q and %q", o.Publish, figuresBegin, figuresEnd)
	}
	dir, err := os.MkdirTemp("", "valetkey-load")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if o.Binary == "" {
		o.Binary = filepath.Join(dir, "valetkey")
		if err := build(ctx, o); err != nil {
			return err
		}
	}
	o.Longest = cmp.Or(o.Longest, longestPublished)
	again := repeatedPublished
	o.again = &again
	environment, err := readEnvironment(ctx) // before the file changes, which makes the tree dirty
	if err != nil {
		return err
	}
	write := func(tables, note string) error {
		return os.WriteFile(o.Publish, withFigures(content, environment.describe(o)+note+tables), 0o644)
	}
	const incomplete = "\nThe run was stopped before its end.\n"
	var above error
	tables := ""
	for _, section := range []struct {
		title, database string
		nodes           int
		only            string
	}{
		{"SQLite", "", 1, ""},
		{"PostgreSQL, one node", "postgres", 1, ""},
		{"PostgreSQL, two nodes", "postgres", 2, throughNodes},
		{"PostgreSQL, four nodes", "postgres", 4, throughNodes},
	} {
		o.Database, o.Nodes, o.Only = section.database, section.nodes, section.only
		heading := fmt.Sprintf("\n### %s\n\n", section.title)
		o.measured = func(r report) error {
			if section.nodes > 1 || section.database != "" {
				environment.postgreSQL = r.Version
			}
			return write(tables+heading+r.table(), incomplete)
		}
		fmt.Fprintln(os.Stderr, section.title)
		r, err := measureAll(ctx, o)
		if err != nil {
			return fmt.Errorf("%s: %w", section.title, err)
		}
		if err := aboveLimit(r); err != nil {
			above = errors.Join(above, fmt.Errorf("%s: %w", section.title, err))
		}
		tables += heading + r.table() + r.memoryLine()
	}
	if err := write(tables, ""); err != nil {
		return err
	}
	if o.Limits {
		return above
	}
	return nil
}

// withFigures replaces the figures in a file; nil if there are none.
func withFigures(content []byte, figures string) []byte {
	before, rest, begins := bytes.Cut(content, []byte(figuresBegin))
	_, after, ends := bytes.Cut(rest, []byte(figuresEnd))
	if !begins || !ends {
		return nil
	}
	return bytes.Join([][]byte{before, []byte(figuresBegin + "\n" + figures + "\n" + figuresEnd), after}, nil)
}

// throughNodes are the scenarios that are measured with several nodes.
const throughNodes = "client_credentials,code_flow,refresh,introspection"

// table returns the result as Markdown. Ratios above their limits are in bold.
func (r report) table() string {
	var b strings.Builder
	b.WriteString("| Request | Requests/s | p50 ms | p95 ms | p99 ms | floor's p99 | fsync p99 | CPU s per 1,000 | Floor | Ratio | Limit |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, result := range r.Scenarios {
		s, _ := scenarioNamed(result.Scenario)
		f := result.Server
		ratio := fmt.Sprintf("%.2f", result.Ratio)
		if !(result.Ratio <= result.Limit) {
			ratio = "**" + ratio + "**"
		}
		fmt.Fprintf(&b, "| %s | %s | %.1f | %.1f | %.1f | %.1f | %.1f | %.3f | %.3f | %s | %.2f |\n",
			s.title, thousands(f.Throughput), f.P50, f.P95, f.P99, result.Floor.P99, f.Fsync, f.CPU, result.Floor.CPU, ratio, result.Limit)
	}
	return b.String()
}

// memoryLine describes the process after the load.
func (r report) memoryLine() string {
	node := "It"
	if r.Nodes > 1 {
		node = "A node"
	}
	line := fmt.Sprintf("\n%s responds %.0f ms after it is started with this database, and uses %.0f MiB of memory after the load. Of these, %.0f MiB are its own; the rest is the program file.\n",
		node, r.Started, r.Memory.Resident, r.Memory.Own)
	if r.Guessing != nil {
		line += "\n" + r.Guessing.String() + "\n"
	}
	return line
}

// thousands formats a number with commas.
func thousands(n float64) string {
	digits := fmt.Sprintf("%.0f", n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// environment is what the figures depend on.
type environment struct {
	commit, kernel, processor string
	postgreSQL                string // its version; "" until it is known
}

func readEnvironment(ctx context.Context) (e environment, err error) {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=12").Output()
	if err != nil {
		return e, fmt.Errorf("git describe: %w", err)
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return e, err
	}
	e.commit, e.kernel = strings.TrimSpace(string(out)), strings.TrimSpace(string(kernel))
	e.processor, err = processorName()
	return e, err
}

func (e environment) describe(o options) string {
	databases := "SQLite " + sqlite.Version + " with synchronous=FULL"
	if e.postgreSQL != "" {
		databases += "; PostgreSQL " + e.postgreSQL + " with its default settings"
	}
	return fmt.Sprintf(`
Measured on %s by `+"`go run ./test/load -publish docs/performance.md`"+`, commit %s.

| | |
|---|---|
| Processor | %s, %d cores, shared by server, load and database |
| System | Linux %s, %s |
| Go | %s |
| Databases | %s |
| Load | %d at a time; %s requests of each kind, or as many as %.0f seconds allow; %s stored refresh tokens |

Ratios above their limits are in bold.
`, time.Now().Format("2 January 2006"), e.commit, e.processor, runtime.NumCPU(), e.kernel, runtime.GOARCH,
		strings.TrimPrefix(runtime.Version(), "go"), databases,
		o.Concurrency, thousands(float64(o.Requests)), o.Longest.Seconds(), thousands(float64(o.Stored)))
}

func processorName() (string, error) {
	file, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "", err
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if name, value, _ := strings.Cut(lines.Text(), ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value), nil
		}
	}
	return "unknown", nil
}

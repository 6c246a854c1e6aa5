package main

import (
	"bufio"
	"bytes"
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

// publish measures SQLite, and PostgreSQL with 1, 2 and 4 nodes, and replaces the figures in a
// file. It writes them even if a scenario is above its limit.
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
	var above error
	var tables strings.Builder
	postgreSQL := ""
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
		fmt.Fprintln(os.Stderr, section.title)
		r, err := measureAll(ctx, o)
		if err != nil {
			return fmt.Errorf("%s: %w", section.title, err)
		}
		if err := aboveLimit(r.Scenarios); err != nil {
			above = errors.Join(above, fmt.Errorf("%s: %w", section.title, err))
		}
		fmt.Fprintf(&tables, "\n### %s\n\n%s", section.title, r.table())
		postgreSQL = r.Version // of the last one
	}
	environment, err := describeEnvironment(ctx, o, postgreSQL)
	if err != nil {
		return err
	}
	if err := os.WriteFile(o.Publish, withFigures(content, environment+tables.String()), 0o644); err != nil {
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

// table returns the result as Markdown.
func (r report) table() string {
	var b strings.Builder
	b.WriteString("| Request | Requests/s | p50 ms | p95 ms | p99 ms | CPU s per 1,000 | Floor | Ratio | Limit |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, result := range r.Scenarios {
		s, _ := scenarioNamed(result.Scenario)
		f := result.Server
		fmt.Fprintf(&b, "| %s | %s | %.1f | %.1f | %.1f | %.3f | %.3f | %.2f | %.2f |\n",
			s.title, thousands(f.Throughput), f.P50, f.P95, f.P99, f.CPU, result.Floor.CPU, result.Ratio, result.Limit)
	}
	node := "It"
	if r.Nodes > 1 {
		node = "A node"
	}
	fmt.Fprintf(&b, "\n%s responds %.0f ms after it is started with this database, and uses %.0f MiB of memory after the load. Of these, %.0f MiB are its own; the rest is the program file.\n",
		node, r.Started, r.Memory.Resident, r.Memory.Own)
	return b.String()
}

// thousands formats a number with commas.
func thousands(n float64) string {
	digits := fmt.Sprintf("%.0f", n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// describeEnvironment returns what the figures depend on.
func describeEnvironment(ctx context.Context, o options, postgreSQL string) (string, error) {
	output := func(name string, args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, name, args...).Output()
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		return strings.TrimSpace(string(out)), nil
	}
	commit, err := output("git", "describe", "--always", "--dirty", "--abbrev=12")
	if err != nil {
		return "", err
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "", err
	}
	processor, err := processorName()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf(`
Measured on %s by `+"`go run ./test/load -publish docs/performance.md`"+`, commit %s.

| | |
|---|---|
| Processor | %s, %d cores, shared by server, load and database |
| System | Linux %s, %s |
| Go | %s |
| Databases | SQLite %s with synchronous=FULL; PostgreSQL %s with its default settings |
| Load | %s requests of each kind, %d at a time; %s stored refresh tokens |
`, time.Now().Format("2 January 2006"), commit, processor, runtime.NumCPU(), strings.TrimSpace(string(kernel)), runtime.GOARCH,
		strings.TrimPrefix(runtime.Version(), "go"), sqlite.Version, postgreSQL, thousands(float64(o.Requests)), o.Concurrency, thousands(float64(o.Stored))), nil
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

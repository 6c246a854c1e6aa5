package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/pgtest"
)

func TestMain(m *testing.M) {
	if isFloor() || isDisk() { // started by the tests below
		main()
		return
	}
	os.Exit(m.Run())
}

func TestAboveLimit(t *testing.T) {
	within := []result{{Scenario: "refresh", Ratio: 1.5, Limit: 1.5}, {Scenario: "jwks", Ratio: 0.9, Limit: 1.2}}
	if err := aboveLimit(report{Scenarios: within, Guessing: &guessing{Slowdown: 1.2}}); err != nil {
		t.Error(err)
	}
	for name, ratio := range map[string]float64{"above": 1.51, "no floor": math.Inf(1), "nothing measured": math.NaN()} {
		if err := aboveLimit(report{Scenarios: append(within, result{Scenario: "refresh", Ratio: ratio, Limit: 1.5})}); err == nil {
			t.Errorf("%s: %v is within 1.5", name, ratio)
		}
	}
	if err := aboveLimit(report{Guessing: &guessing{Slowdown: 1.21}}); err == nil {
		t.Error("a slowdown of 1.21 is within 1.2")
	}
	for _, s := range scenarios() {
		if s.limits.sqlite <= 1 || s.limits.reason == "" || s.limits.postgreSQL < s.limits.sqlite {
			t.Errorf("%s has the limits %v", s.name, s.limits)
		}
	}
}

func TestUnknownScenario(t *testing.T) {
	if err := run(t.Context(), options{Requests: 10, Concurrency: 1, Nodes: 1, Only: "refresh,introspektion"}); err == nil {
		t.Error("a run of an unknown scenario succeeds")
	}
}

func TestSQLiteHasOneNode(t *testing.T) {
	if err := run(t.Context(), options{Requests: 10, Concurrency: 1, Nodes: 2}); err == nil {
		t.Error("two nodes share a SQLite file")
	}
}

// A few requests of each kind: enough to check that every scenario works.
func TestEveryScenarioRuns(t *testing.T) {
	if err := run(t.Context(), options{Requests: 200, Concurrency: 8, Nodes: 1, Stored: 500}); err != nil {
		t.Fatal(err)
	}
}

func TestEveryScenarioRunsOnTwoNodes(t *testing.T) {
	t.Setenv(configuration.MasterKeyVariable, strings.Repeat("A", 43))
	o := options{Requests: 100, Concurrency: 8, Nodes: 2, Stored: 500, Database: pgtest.Database(t)}
	if err := run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

func TestPublishReplacesOnlyTheFigures(t *testing.T) {
	file := filepath.Join(t.TempDir(), "performance.md")
	if err := publish(t.Context(), options{Publish: file}); err == nil {
		t.Error("a file that does not exist is replaced")
	}
	if err := os.WriteFile(file, []byte("# Performance\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := publish(t.Context(), options{Publish: file}); err == nil || !strings.Contains(err.Error(), figuresBegin) {
		t.Errorf("a file without figures is replaced: %v", err)
	}
	content := fmt.Sprintf("before\n%s\nold\n%s\nafter\n", figuresBegin, figuresEnd)
	written := string(withFigures([]byte(content), "new"))
	if want := fmt.Sprintf("before\n%snew%s\nafter\n", figuresBegin+"\n", "\n"+figuresEnd); written != want {
		t.Errorf("got %q, want %q", written, want)
	}
}

// A run that is stopped keeps the tables that it has.
func TestPublishWritesAfterEachScenario(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	stopped := errors.New("stopped")
	o := options{Requests: 20, Concurrency: 4, Nodes: 1, Stored: 500, Only: "client_credentials,discovery,jwks"}
	titles := []string{}
	o.measured = func(r report) error {
		titles = append(titles, r.Scenarios[len(r.Scenarios)-1].Scenario)
		if len(titles) == 2 {
			cancel()
			return stopped
		}
		return nil
	}
	if _, err := measureAll(ctx, o); !errors.Is(err, stopped) {
		t.Errorf("got %v", err)
	}
	if want := []string{"client_credentials", "discovery"}; !slices.Equal(titles, want) {
		t.Errorf("reported %v, want %v", titles, want)
	}
}

// A measurement ends when its time is over, and counts the requests that were sent.
func TestMeasurementEndsInTime(t *testing.T) {
	times, err := flood(t.Context(), 1<<40, 2, 20*time.Millisecond, func(context.Context, int) error { return nil }, 0)
	if err != nil || len(times) == 0 {
		t.Errorf("%d requests, %v", len(times), err)
	}
}

func TestTableFormatsFigures(t *testing.T) {
	r := report{Nodes: 1, Started: 21.4, Memory: memory{38.2, 17.3}, Scenarios: []result{{
		Scenario: "jwks", Server: figures{0.0211, 34368, 0.71, 2.04, 5.02, 1.81}, Floor: figures{CPU: 0.018, P99: 4.44}, Ratio: 1.17, Limit: 1.2,
	}}}
	want := "| JWKS | 34,368 | 0.7 | 2.0 | 5.0 | 4.4 | 1.8 | 0.021 | 0.018 | 1.17 | 1.20 |\n"
	if got := r.table(); !strings.HasSuffix(got, want) {
		t.Errorf("got %q, want the end %q", got, want)
	}
	r.Scenarios[0].Limit = 1.1
	if got := r.table(); !strings.Contains(got, "| **1.17** | 1.10 |") {
		t.Errorf("a ratio above its limit is not in bold: %q", got)
	}
	want = "\nIt responds 21 ms after it is started with this database, and uses 38 MiB of memory after the load. Of these, 17 MiB are its own; the rest is the program file.\n"
	if got := r.memoryLine(); got != want {
		t.Errorf("got %q, want the end %q", got, want)
	}
}

// The disk is measured until the process is stopped.
func TestDiskIsMeasured(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	d, err := startDisk(t.Context(), self, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.stop()
	var times []time.Duration
	for end := time.Now().Add(30 * time.Second); len(times) < 3; {
		if time.Now().After(end) {
			t.Fatalf("only %d times were measured", len(times))
		}
		times = append(times, d.taken()...)
		runtime.Gosched()
	}
	if p := percentile(times, 0); p <= 0 {
		t.Errorf("the least is %v ms", p)
	}
}

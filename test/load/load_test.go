package main

import (
	"fmt"
	"math"
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 4 && os.Args[1] == "floor" { // started by the test below
		if err := serveFloor(os.Args[2], os.Args[3], os.Args[4]); err != nil {
			fmt.Fprintln(os.Stderr, "floor:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func TestAboveLimit(t *testing.T) {
	within := []result{{Scenario: "refresh", Ratio: 1.5, Limit: 1.5}, {Scenario: "jwks", Ratio: 0.9, Limit: 1.2}}
	if err := aboveLimit(within); err != nil {
		t.Error(err)
	}
	for name, ratio := range map[string]float64{"above": 1.51, "no floor": math.Inf(1), "nothing measured": math.NaN()} {
		if err := aboveLimit(append(within, result{Scenario: "refresh", Ratio: ratio, Limit: 1.5})); err == nil {
			t.Errorf("%s: %v is within 1.5", name, ratio)
		}
	}
	for _, s := range scenarios() {
		if limits[s.name].ratio <= 1 || limits[s.name].reason == "" || limitOf(s.name, "postgres://x") <= limitOf(s.name, "sqlite:x") {
			t.Errorf("%s has the limit %v", s.name, limits[s.name])
		}
	}
}

func TestUnknownScenario(t *testing.T) {
	if err := run(t.Context(), options{Requests: 10, Concurrency: 1, Stored: 1, Only: "introspektion"}); err == nil {
		t.Error("a run of an unknown scenario succeeds")
	}
}

// A few requests of each kind: enough to check that every scenario works.
func TestEveryScenarioRuns(t *testing.T) {
	if err := run(t.Context(), options{Requests: 200, Concurrency: 8, Stored: 500}); err != nil {
		t.Fatal(err)
	}
}

package main

import (
	"fmt"
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

// A few requests of each kind: enough to see that every scenario still walks the real path.
func TestEveryScenarioRuns(t *testing.T) {
	if err := run(t.Context(), options{Requests: 200, Concurrency: 8, Stored: 100}); err != nil {
		t.Fatal(err)
	}
}

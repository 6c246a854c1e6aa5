package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReportKeepsEarlierPlans(t *testing.T) {
	plans, err := readPlans()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, p := range plans {
		if names[p.String()] {
			t.Errorf("two plans are called %s", p)
		}
		names[p.String()] = true
	}
	file, page := filepath.Join(t.TempDir(), "results.json"), filepath.Join(t.TempDir(), "page.md")
	skipped := []result{{Module: "one", Outcome: "PASSED"}, {Module: "two", Outcome: "SKIPPED", Reasons: []string{"not run: a reason"}}}
	for i, results := range [][]result{skipped, {{Module: "three", Outcome: "REVIEW"}}} {
		r, err := readReport(file)
		if err != nil {
			t.Fatal(err)
		}
		r.against = "0123456 against suite 5"
		if err := r.put(plans[i], results); err != nil {
			t.Fatal(err)
		}
		if err := r.write(page); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| " + plans[0].String() + " | 1 | 0 | 0 | 0 | 1 | 20",
		", 0123456 against suite 5 |\n| " + plans[1].String() + " | 0 | 1 | 0 | 0 | 0 | 20",
		"- `two`, skipped: not run: a reason\n",
		"**" + plans[0].String() + "**: one passed, two skipped\n",
	} {
		if !strings.Contains(string(content), want) {
			t.Errorf("the page does not contain %q:\n%s", want, content)
		}
	}
}

// A run with another directory of results keeps what the page says about other plans.
func TestPageKeepsOtherPlans(t *testing.T) {
	plans, err := readPlans()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "page.md")
	write := func(ran map[int][]result) string {
		t.Helper()
		r := &report{Plans: map[string]planResults{}, file: filepath.Join(t.TempDir(), "results.json"), against: "0123456 against suite 5"}
		for i, results := range ran {
			if err := r.put(plans[i], results); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.write(path); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	write(map[int][]result{
		0: {{Module: "one", Outcome: "PASSED"}, {Module: "two", Outcome: "SKIPPED", Reasons: []string{"not run: a reason"}}},
		1: {{Module: "three", Outcome: "FAILED", Reasons: []string{"an old failure"}}},
	})
	page := write(map[int][]result{1: {{Module: "three", Outcome: "PASSED"}}})
	for _, want := range []string{
		"| " + plans[0].String() + " | 1 | 0 | 0 | 0 | 1 | 20", "**" + plans[0].String() + "**: one passed, two skipped\n",
		"- `two`, skipped: not run: a reason\n", "**" + plans[1].String() + "**: three passed\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not contain %q:\n%s", want, page)
		}
	}
	if strings.Contains(page, "an old failure") {
		t.Errorf("the page contains the failure of a plan that has passed since:\n%s", page)
	}
}

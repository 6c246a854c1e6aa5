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

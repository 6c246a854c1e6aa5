package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results.json")
	r, err := readReport(file)
	if err != nil {
		t.Fatal(err)
	}
	asked := []string{"REVIEW: Page: Show a\n  page"}
	r.put("basic", result{Module: "one", Result: "FAILED"})
	r.put("basic", result{Module: "one", Variant: map[string]string{"response_type": "code"}, Result: "PASSED"})
	r.put("basic", result{Module: "one", Result: "PASSED"}) // a second try takes the place of the first
	r.put("basic", result{Module: "two", Result: "REVIEW", Reasons: asked})
	r.put("hybrid", result{Module: "two", Result: "REVIEW", Reasons: asked})
	r.put("hybrid", result{Module: "three", Result: "FAILED", Reasons: []string{"it did not end"}})
	if err := r.save(file); err != nil {
		t.Fatal(err)
	}
	if r, err = readReport(file); err != nil {
		t.Fatal(err)
	}
	if known, ok := r.find("hybrid", module{Name: "three"}); !ok || known.Result != "FAILED" {
		t.Errorf("a result was forgotten: %v, %v", known, ok)
	}
	if all := []plan{{Label: "basic"}}; r.failed(all) {
		t.Error("basic failed")
	}
	if all := []plan{{Label: "basic"}, {Label: "hybrid"}}; !r.failed(all) {
		t.Error("hybrid did not fail")
	}
	page := filepath.Join(t.TempDir(), "conformance.md")
	if err := r.write(page); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| basic | 2 | 1 | 0 | 0 | 0 |\n",
		"| hybrid | 0 | 1 | 0 | 1 | 0 |\n",
		"### Review\n\n- `two`, review:\n  - REVIEW: Page: Show a page\n  - in basic, hybrid\n",
		"### Failed\n\n- `three`, failed:\n  - it did not end\n  - in hybrid\n",
		"**hybrid**: two review, three failed\n",
	} {
		if !strings.Contains(string(content), want) {
			t.Errorf("the page lacks %q:\n%s", want, content)
		}
	}
}

func TestPlansAreDifferent(t *testing.T) {
	known := map[string]bool{}
	for _, p := range plans() {
		if known[p.Label] {
			t.Errorf("two plans are called %s", p.Label)
		}
		known[p.Label] = true
	}
	if n := len(find("basic-static,rp-initiated-logout*,oidcc-config-certification-test-plan")); n != 4 {
		t.Errorf("%d plans were found, want 4", n)
	}
}

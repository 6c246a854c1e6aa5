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
	r.put("basic", result{Module: "one", Variant: map[string]string{"response_type": "code"}, Result: "PASSED", Date: "2026-11-24"})
	r.put("basic", result{Module: "one", Result: "PASSED", Date: "2026-11-26", Commit: "0123456"}) // a second run replaces the first
	r.put("basic", result{Module: "two", Result: "REVIEW", Reasons: asked, Date: "2026-11-23"})
	r.put("hybrid", result{Module: "two", Result: "REVIEW", Reasons: asked})
	r.put("hybrid", result{Module: "three", Result: "FAILED", Reasons: []string{"not finished"}})
	if err := r.save(file); err != nil {
		t.Fatal(err)
	}
	if r, err = readReport(file); err != nil {
		t.Fatal(err)
	}
	if known, ok := r.find("hybrid", module{Name: "three"}); !ok || known.Result != "FAILED" {
		t.Errorf("a result is missing: %v, %v", known, ok)
	}
	r.put("hybrid-without-switches", result{Module: "three", Result: "FAILED", Refused: "`insecure_x`: that is refused."})
	r.Switches["hybrid"] = []string{"insecure_no_code_challenge"}
	page := filepath.Join(t.TempDir(), "conformance.md")
	if err := r.write(page); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| basic | 2 | 1 | 0 | 0 | 0 | 2026-11-23 to 2026-11-26, 0123456 | none |\n",
		"| hybrid | 0 | 1 | 0 | 1 | 0 |  | insecure_no_code_challenge |\n",
		"## Without the switches\n\nThese modules fail with the default settings, because they do what the defaults refuse.\n\n`insecure_x`: that is refused.\n\n- `three` in hybrid-without-switches\n",
		"| hybrid-without-switches | 0 | 0 | 0 | 1 | 0 |  | none |\n",
		"### Review\n\n- `two`, review:\n  - REVIEW: Page: Show a page\n  - in basic, hybrid\n",
		"### Failed\n\n- `three`, failed:\n  - not finished\n  - in hybrid\n",
		"**hybrid**: two review, three failed\n",
	} {
		if !strings.Contains(string(content), want) {
			t.Errorf("the page does not contain %q:\n%s", want, content)
		}
	}
}

func TestReportFailsOnWhatIsNotAResult(t *testing.T) {
	basic := []plan{{Label: "basic"}}
	for name, test := range map[string]struct {
		results []result
		only    string
		problem string // "" for none
	}{
		"all passed":           {results: []result{{Module: "one", Result: "PASSED"}, {Module: "two", Result: "REVIEW"}, {Module: "three", Result: "SKIPPED"}}},
		"one is refused":       {results: []result{{Module: "one", Result: "FAILED", Refused: "a default"}}},
		"one failed":           {results: []result{{Module: "one", Result: "FAILED"}}, problem: `basic: one ended as "FAILED"`},
		"no result":            {results: []result{{Module: "one"}}, problem: `basic: one ended as ""`},
		"an unknown result":    {results: []result{{Module: "one", Result: "UNKNOWN"}}, problem: `basic: one ended as "UNKNOWN"`},
		"an empty plan":        {problem: "basic has no result"},
		"a module of the plan": {results: []result{{Module: "one", Result: "PASSED"}}, only: "one"},
		"a module of no plan":  {results: []result{{Module: "one", Result: "PASSED"}}, only: "noe", problem: "no plan has the module noe"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &report{Plans: map[string][]result{"basic": test.results}}
			if got := strings.Join(r.problems(basic, test.only), "; "); got != test.problem {
				t.Errorf("the problem is %q, want %q", got, test.problem)
			}
		})
	}
}

func TestPlansNameTheirSwitches(t *testing.T) {
	for label, want := range map[string][2]string{
		"basic-static":  {"insecure_no_code_challenge", ""},
		"basic-dynamic": {"insecure_assertion_audience insecure_error_redirects insecure_no_code_challenge", ""},
	} {
		p := find(label)[0]
		if got := strings.Join(p.switches(), " "); got != want[0] {
			t.Errorf("%s runs with %q, want %q", label, got, want[0])
		}
		p.WithoutSwitches = true
		if got := strings.Join(p.switches(), " "); got != want[1] {
			t.Errorf("%s runs with %q without switches", label, got)
		}
		if strings.Contains(registrationLine(serverConfiguration([]plan{p})), "insecure_") {
			t.Errorf("the configuration of %s without switches has one", label)
		}
	}
}

func TestRefusedByDefault(t *testing.T) {
	const nonce = "oidcc-ensure-request-without-nonce-succeeds-for-code-flow"
	jwt := map[string]string{"client_auth_type": "private_key_jwt"}
	errorResponse := []string{"FAILURE: CheckIfAuthorizationEndpointError: The server returned an error"}
	onErrorPage := []string{errorPage + "/authorize (status 400) instead of a redirect"}
	for name, c := range map[string]struct {
		label    string
		switches bool
		ended    result
		refused  string // part of it
	}{
		"no nonce":                      {label: "basic-static", ended: result{Module: nonce, Result: "FAILED", Reasons: errorResponse}, refused: "insecure_no_code_challenge"},
		"no nonce, dynamic":             {label: "basic-dynamic", ended: result{Module: nonce, Result: "FAILED", Reasons: onErrorPage}, refused: "insecure_no_code_challenge"},
		"no nonce, with switches":       {label: "basic-static", switches: true, ended: result{Module: nonce, Result: "FAILED", Reasons: errorResponse}},
		"no nonce, a slow suite":        {label: "basic-static", ended: result{Module: nonce, Result: "FAILED", Reasons: []string{"context deadline exceeded"}}},
		"no nonce, passed":              {label: "basic-static", ended: result{Module: nonce, Result: "PASSED"}},
		"a client assertion":            {label: "dynamic-code", ended: result{Module: "m", Result: "FAILED", Variant: jwt, Reasons: []string{"FAILURE: CheckTokenEndpointHttpStatus200: Invalid"}}, refused: "insecure_assertion_audience"},
		"a client assertion, otherwise": {label: "dynamic-code", ended: result{Module: "m", Result: "FAILED", Variant: jwt, Reasons: []string{"FAILURE: CheckNonce: Invalid"}}},
		"an error page":                 {label: "basic-dynamic", ended: result{Module: "m", Result: "FAILED", Reasons: onErrorPage}, refused: "insecure_error_redirects"},
		"an error page, static":         {label: "basic-static", ended: result{Module: "m", Result: "FAILED", Reasons: onErrorPage}},
	} {
		p := find(c.label)[0]
		p.WithoutSwitches = !c.switches
		if got := p.refused(c.ended); !strings.Contains(got, c.refused) || (got == "") != (c.refused == "") {
			t.Errorf("%s: %q is refused, want %q", name, got, c.refused)
		}
	}
}

func registrationLine(configuration string) string {
	_, after, _ := strings.Cut(configuration, "\nregistration:")
	line, _, _ := strings.Cut(after, "\n")
	return line
}

func TestPlansAreDifferent(t *testing.T) {
	known := map[string]bool{}
	for _, p := range plans() {
		if known[p.Label] {
			t.Errorf("two plans have the label %s", p.Label)
		}
		known[p.Label] = true
	}
	if n := len(find("basic-static,rp-initiated-logout*,oidcc-config-certification-test-plan")); n != 4 {
		t.Errorf("%d plans were found, want 4", n)
	}
}

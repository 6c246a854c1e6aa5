package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"
)

// writeReport writes the results of all plans to a page.
func writeReport(ctx context.Context, s *suite, path string, done []*finished) error {
	var server struct {
		Version string `json:"version"`
	}
	if err := s.call(ctx, http.MethodGet, "/api/server", nil, nil, &server); err != nil {
		return err
	}
	// Outside of a repository there is no commit to name.
	commit, _ := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=7", "--exclude", "*").Output()
	var b strings.Builder
	fmt.Fprintf(&b, "# Conformance of the relying party\n\nWritten by `go run ./test/conformance/rp`: package `client` against the OpenID Foundation's conformance suite %s, %s. "+
		"This is our own run, not a certification. Modules with a frame in the browser end as `review` at best, because a person has to look at them.\n\n",
		server.Version, strings.Join(strings.Fields(time.Now().UTC().Format(time.DateOnly)+" "+string(commit)), ", "))
	b.WriteString("| plan | passed | review | warned | failed | skipped |\n| --- | ---: | ---: | ---: | ---: | ---: |\n")
	for _, f := range done {
		fmt.Fprintf(&b, "| %s |", f.plan)
		for _, outcome := range outcomes {
			fmt.Fprintf(&b, " %d |", f.count(outcome))
		}
		b.WriteString("\n")
	}
	b.WriteString("\n## Warned, failed or skipped\n\n")
	reasons := map[string]bool{}
	for _, f := range done {
		for _, r := range f.results {
			text := "- `" + r.module + "`, " + strings.ToLower(r.outcome) + ": " + strings.Join(r.reasons, "; ") + "\n"
			if r.outcome == "PASSED" || r.outcome == "REVIEW" || reasons[text] {
				continue
			}
			reasons[text] = true
			b.WriteString(text)
		}
	}
	b.WriteString("\n## Every result\n")
	for _, f := range done {
		fmt.Fprintf(&b, "\n**%s**: ", f.plan)
		var items []string
		for _, r := range f.results {
			items = append(items, r.module+" "+strings.ToLower(r.outcome))
		}
		b.WriteString(strings.Join(items, ", ") + "\n")
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	return nil
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// report is the latest results of each plan, by the plan's name.
type report struct {
	Plans map[string]planResults `json:"plans"`

	file    string
	against string
}

// planResults are the results of a run of one plan.
type planResults struct {
	Date    string   `json:"date"`
	Against string   `json:"against"` // versions of package client and of the suite
	Results []result `json:"results"`
}

func readReport(file string) (*report, error) {
	r := &report{Plans: map[string]planResults{}, file: file}
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(content, r); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return r, nil
}

// versions returns the commit of package client and the version of the suite.
func versions(ctx context.Context, s *suite) (string, error) {
	var server struct {
		Version string `json:"version"`
	}
	if err := s.call(ctx, http.MethodGet, "/api/server", nil, nil, &server); err != nil {
		return "", err
	}
	// Outside of a repository there is no commit to name.
	commit, _ := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=7", "--exclude", "*").Output()
	return strings.TrimSpace(strings.TrimSpace(string(commit)) + " against suite " + server.Version), nil
}

// put saves the results of a plan.
func (r *report) put(p plan, results []result) error {
	r.Plans[p.String()] = planResults{time.Now().UTC().Format(time.DateOnly), r.against, results}
	content, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(r.file, append(content, '\n'), 0o644)
}

// write writes the results of all plans to a page. Plans without a result here keep those that the page
// has.
func (r *report) write(path string) error {
	plans, err := readPlans()
	if err != nil {
		return err
	}
	before, err := readPage(path)
	if err != nil {
		return err
	}
	var table, notes, every strings.Builder
	noted := map[string]bool{}
	for _, p := range plans {
		ran, ok := r.Plans[p.String()]
		if kept := before.plans[p.String()]; !ok && kept.row != "" {
			table.WriteString(kept.row + "\n")
			for _, note := range before.notes {
				if about, _, _ := strings.Cut(strings.TrimPrefix(note, "- `"), ": "); !noted[note+"\n"] && kept.has(strings.Replace(about, "`,", "", 1)) {
					noted[note+"\n"] = true
					notes.WriteString(note + "\n")
				}
			}
			fmt.Fprintf(&every, "\n%s\n", kept.every)
		}
		if !ok {
			continue
		}
		fmt.Fprintf(&table, "| %s |", p)
		for _, outcome := range outcomes {
			fmt.Fprintf(&table, " %d |", count(ran.Results, outcome))
		}
		fmt.Fprintf(&table, " %s, %s |\n", ran.Date, ran.Against)
		var items []string
		for _, result := range ran.Results {
			items = append(items, result.Module+" "+strings.ToLower(result.Outcome))
			note := "- `" + result.Module + "`, " + strings.ToLower(result.Outcome) + ": " + strings.Join(result.Reasons, "; ") + "\n"
			if result.Outcome == "PASSED" || result.Outcome == "REVIEW" || noted[note] {
				continue
			}
			noted[note] = true
			notes.WriteString(note)
		}
		fmt.Fprintf(&every, "\n**%s**: %s\n", p, strings.Join(items, ", "))
	}
	page := "# Conformance of the relying party\n\nWritten by `go run ./test/conformance/rp`: package `client` against the OpenID Foundation's conformance suite. " +
		"This is our own run, not a certification. Modules with a frame in the browser end as `review` at best, because a person has to look at them.\n\n" +
		"| plan | passed | review | warned | failed | skipped | ran |\n| --- | ---: | ---: | ---: | ---: | ---: | --- |\n" + table.String() +
		"\n## Warned, failed or skipped\n\n" + notes.String() + "\n## Every result\n" + every.String()
	if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	return nil
}

// earlierPage is a page that write wrote before.
type earlierPage struct {
	plans map[string]keptPlan
	notes []string
}

// keptPlan is what a page says about a plan: its row of the table, and the list of all results.
type keptPlan struct{ row, every string }

// has reports whether a plan has a result, such as "oidcc-client-test skipped".
func (p keptPlan) has(result string) bool {
	_, list, _ := strings.Cut(p.every, "**: ")
	return slices.Contains(strings.Split(list, ", "), result)
}

func readPage(path string) (earlierPage, error) {
	read := earlierPage{plans: map[string]keptPlan{}}
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return read, nil
	}
	if err != nil {
		return read, fmt.Errorf("read the earlier results: %w", err)
	}
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "| "):
			name, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " |")
			read.plans[name] = keptPlan{row: line}
		case strings.HasPrefix(line, "- `"):
			read.notes = append(read.notes, line)
		case strings.HasPrefix(line, "**"):
			name, _, _ := strings.Cut(strings.TrimPrefix(line, "**"), "**: ")
			kept := read.plans[name]
			kept.every = line
			read.plans[name] = kept
		}
	}
	return read, nil
}

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report is every result so far, by the label of the plan.
type report struct {
	Date     string              `json:"date"`
	Suite    string              `json:"suite"`
	Valetkey string              `json:"valetkey"`
	Plans    map[string][]result `json:"plans"`
}

func readReport(path string) (*report, error) {
	r := &report{Plans: map[string][]result{}}
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(content, r); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return r, nil
}

func (r *report) save(path string) error {
	content, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(content, '\n'), 0o644)
}

// find returns what is known of a module.
func (r *report) find(label string, m module) (result, bool) {
	for _, known := range r.Plans[label] {
		if known.Module == m.Name && maps.Equal(known.Variant, m.Variant) {
			return known, true
		}
	}
	return result{}, false
}

func (r *report) put(label string, ended result) {
	for i, known := range r.Plans[label] {
		if known.Module == ended.Module && maps.Equal(known.Variant, ended.Variant) {
			r.Plans[label][i] = ended
			return
		}
	}
	r.Plans[label] = append(r.Plans[label], ended)
}

var kinds = []string{"PASSED", "REVIEW", "WARNING", "FAILED", "SKIPPED"}

func counts(results []result) map[string]int {
	n := map[string]int{}
	for _, ended := range results {
		n[ended.Result]++
	}
	return n
}

// failed reports whether any module of the plans failed.
func (r *report) failed(all []plan) bool {
	return slices.ContainsFunc(all, func(p plan) bool { return counts(r.Plans[p.Label])["FAILED"] > 0 })
}

func (r *report) print(w io.Writer, all []plan) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "plan\tpassed\treview\twarned\tfailed\tskipped")
	for _, p := range all {
		n := counts(r.Plans[p.Label])
		fmt.Fprint(table, p.Label)
		for _, kind := range kinds {
			fmt.Fprintf(table, "\t%d", n[kind])
		}
		fmt.Fprintln(table)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, p := range all {
		for _, ended := range r.Plans[p.Label] {
			if ended.Result == "PASSED" {
				continue
			}
			fmt.Fprintf(w, "\n%s: %s: %s\n", p.Label, ended.Module, ended.Result)
			for _, reason := range ended.Reasons {
				fmt.Fprintf(w, "  %s\n", reason)
			}
		}
	}
	return nil
}

// write writes docs/conformance.md.
func (r *report) write(path string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Conformance\n\nWritten by `go run ./test/conformance --suite URL --write docs/conformance.md`: Valetkey %s against the OpenID Foundation's conformance suite %s, %s. "+
		"The server kept its data in SQLite where the name of a plan says nothing else. "+
		"This is our own run, not a certification. A module that asks for a picture ends as review at best: a person has to look.\n\n",
		r.Valetkey, r.Suite, r.Date)
	b.WriteString("| plan | passed | review | warned | failed | skipped |\n| --- | ---: | ---: | ---: | ---: | ---: |\n")
	labels := slices.Sorted(maps.Keys(r.Plans))
	for _, label := range labels {
		fmt.Fprintf(&b, "| %s |", label)
		n := counts(r.Plans[label])
		for _, kind := range kinds {
			fmt.Fprintf(&b, " %d |", n[kind])
		}
		b.WriteString("\n")
	}
	b.WriteString("\n## What did not simply pass\n")
	// The same module says the same in many plans.
	where := map[string][]string{}
	for _, label := range labels {
		for _, ended := range r.Plans[label] {
			if ended.Result == "PASSED" {
				continue
			}
			text := fmt.Sprintf("`%s`, %s:", ended.Module, strings.ToLower(ended.Result))
			for _, reason := range ended.Reasons {
				text += "\n  - " + strings.Join(strings.Fields(reason), " ")
			}
			if plans := where[text]; !slices.Contains(plans, label) {
				where[text] = append(plans, label)
			}
		}
	}
	for _, kind := range kinds[1:] {
		var texts []string
		for _, text := range slices.Sorted(maps.Keys(where)) {
			if strings.Contains(text, "`, "+strings.ToLower(kind)+":") {
				texts = append(texts, text)
			}
		}
		if len(texts) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n### %s\n\n", strings.ToUpper(kind[:1])+strings.ToLower(kind[1:]))
		for _, text := range texts {
			fmt.Fprintf(&b, "- %s\n  - in %s\n", text, strings.Join(where[text], ", "))
		}
	}
	b.WriteString("\n## Every result\n")
	for _, label := range labels {
		fmt.Fprintf(&b, "\n**%s**: ", label)
		var items []string
		for _, ended := range r.Plans[label] {
			items = append(items, ended.Module+" "+strings.ToLower(ended.Result))
		}
		b.WriteString(strings.Join(items, ", ") + "\n")
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

func today() string { return time.Now().UTC().Format(time.DateOnly) }

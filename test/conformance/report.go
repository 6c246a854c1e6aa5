package main

import (
	"cmp"
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

// report is the results so far and the switches of each plan, by the plan's label.
type report struct {
	Plans    map[string][]result `json:"plans"`
	Switches map[string][]string `json:"switches"`
}

func readReport(path string) (*report, error) {
	r := &report{Plans: map[string][]result{}, Switches: map[string][]string{}}
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

// find returns the earlier result of a module.
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

// problems returns why the run of these plans is not a success: modules that failed for
// another reason than a refusal of the default settings, modules with an unknown result, and
// plans without a result. With only, some plan must have that module.
func (r *report) problems(all []plan, only string) []string {
	var problems []string
	found := false
	for _, p := range all {
		results := r.Plans[p.Label]
		if len(results) == 0 && only == "" {
			problems = append(problems, p.Label+" has no result")
		}
		for _, ended := range results {
			found = found || ended.Module == only
			if ended.Result == "FAILED" && ended.Refused == "" || !slices.Contains(kinds, ended.Result) {
				problems = append(problems, fmt.Sprintf("%s: %s ended as %q", p.Label, ended.Module, ended.Result))
			}
		}
	}
	if only != "" && !found {
		problems = append(problems, "no plan has the module "+only)
	}
	return problems
}

// when returns the day on which a plan's modules ran, or the first and the last one, and the
// server's commits.
func when(results []result) string {
	var first, last string
	commits := map[string]bool{}
	for _, ended := range results {
		if ended.Commit != "" {
			commits[ended.Commit] = true
		}
		if first == "" || ended.Date < first {
			first = ended.Date
		}
		last = max(last, ended.Date)
	}
	days := first
	if first != last {
		days += " to " + last
	}
	return strings.Join(append([]string{days}, slices.Sorted(maps.Keys(commits))...), ", ")
}

// versions returns the versions of server and suite in all results.
func (r *report) versions() string {
	found := map[string]bool{}
	for _, results := range r.Plans {
		for _, ended := range results {
			found[ended.Against] = true
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(found)), ", ")
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
	fmt.Fprintf(&b, "# Conformance\n\nWritten by `go run ./test/conformance --suite URL --write docs/conformance.md`, a run of the OpenID Foundation's conformance suite: %s. "+
		"The server's database is SQLite unless the plan's name ends in `-postgresql`. "+
		"This is our own run, not a certification. A module that asks for a screenshot ends as `review` at best, because a person has to look at it.\n\n"+
		"The switches are the `insecure_…` settings that the plan's clients ran with. They are off by default. "+
		"Plans whose name contains `-without-switches` ran with the default settings (`--without-switches`). "+
		"The clients of the FAPI plans have the `profile` for their plan. The suite is told the one member of the metadata that it does not know, of a draft (`allow_unexpected_metadata_fields`).\n\n",
		r.versions())
	b.WriteString("| plan | passed | review | warned | failed | skipped | ran | switches |\n| --- | ---: | ---: | ---: | ---: | ---: | --- | --- |\n")
	labels := slices.Sorted(maps.Keys(r.Plans))
	for _, label := range labels {
		fmt.Fprintf(&b, "| %s |", label)
		n := counts(r.Plans[label])
		for _, kind := range kinds {
			fmt.Fprintf(&b, " %d |", n[kind])
		}
		fmt.Fprintf(&b, " %s | %s |\n", when(r.Plans[label]), cmp.Or(strings.Join(r.Switches[label], ", "), "none"))
	}
	r.writeRefused(&b, labels)
	b.WriteString("\n## Modules that did not pass\n")
	// A module has the same reasons in many plans.
	where := map[string][]string{}
	for _, label := range labels {
		for _, ended := range r.Plans[label] {
			if ended.Result == "PASSED" || ended.Refused != "" {
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

// writeRefused writes which modules failed because of the default settings.
func (r *report) writeRefused(b *strings.Builder, labels []string) {
	failed := map[string]map[string][]string{} // the plans, by what is refused and by module
	for _, label := range labels {
		for _, ended := range r.Plans[label] {
			if ended.Refused == "" {
				continue
			}
			if failed[ended.Refused] == nil {
				failed[ended.Refused] = map[string][]string{}
			}
			if plans := failed[ended.Refused][ended.Module]; !slices.Contains(plans, label) {
				failed[ended.Refused][ended.Module] = append(plans, label)
			}
		}
	}
	if len(failed) == 0 {
		return
	}
	b.WriteString("\n## Without the switches\n\nThese modules fail with the default settings, because they do what the defaults refuse.\n")
	for _, refused := range slices.Sorted(maps.Keys(failed)) {
		fmt.Fprintf(b, "\n%s\n\n", refused)
		for _, module := range slices.Sorted(maps.Keys(failed[refused])) {
			fmt.Fprintf(b, "- `%s` in %s\n", module, strings.Join(failed[refused][module], ", "))
		}
	}
}

func today() string { return time.Now().UTC().Format(time.DateOnly) }

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

func main() {
	address := flag.String("suite", "", "URL of the conformance suite")
	only := flag.String("plan", "", "run only the plans whose name or variant contains this")
	module := flag.String("module", "", "run only the modules whose name contains this")
	parallel := flag.Int("parallel", 2, "how many plans run in parallel")
	write := flag.String("write", "", "write the results, with those of earlier runs, to this Markdown `file`")
	directory := flag.String("directory", filepath.Join("test", "artifacts", "conformance"), "the `directory` of the results")
	flag.Parse()
	if *address == "" {
		fmt.Fprintln(os.Stderr, "no suite: pass --suite URL")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	s := newSuite(strings.TrimSuffix(*address, "/"))
	done, err := start(ctx, s, *directory, *write, *only, *module, *parallel)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	for _, p := range done {
		if count(p.results, "FAILED") > 0 {
			os.Exit(1)
		}
	}
}

// start runs the selected plans, and saves and writes their results.
func start(ctx context.Context, s *suite, directory, page, only, module string, parallel int) ([]*finished, error) {
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return nil, err
	}
	r, err := readReport(filepath.Join(directory, "relying-party.json"))
	if err != nil {
		return nil, err
	}
	if r.against, err = versions(ctx, s); err != nil {
		return nil, err
	}
	done, err := runAll(ctx, s, r, only, module, max(parallel, 1))
	if err == nil && page != "" {
		err = r.write(page)
	}
	return done, err
}

// finished is a plan that was run.
type finished struct {
	plan    plan
	results []result
	err     error
}

func count(results []result, outcome string) int {
	n := 0
	for _, r := range results {
		if r.Outcome == outcome {
			n++
		}
	}
	return n
}

// outcomes are the results that a module can have, in the order of the table.
var outcomes = []string{"PASSED", "REVIEW", "WARNING", "FAILED", "SKIPPED"}

// runAll runs the selected plans and prints each when it ends.
func runAll(ctx context.Context, s *suite, kept *report, only, module string, parallel int) ([]*finished, error) {
	plans, err := readPlans()
	if err != nil {
		return nil, err
	}
	const row = "%-90s %7v %7v %7v %7v %7v\n"
	fmt.Printf(row, "plan", "passed", "review", "warned", "failed", "skipped")
	var (
		done  []*finished
		group sync.WaitGroup
		mu    sync.Mutex // of the output and the report
		slots = make(chan struct{}, parallel)
	)
	for _, p := range plans {
		if !strings.Contains(p.Plan, only) && !strings.Contains(p.String(), only) {
			continue
		}
		f := &finished{plan: p}
		done = append(done, f)
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			f.results, f.err = p.run(ctx, s, module)
			mu.Lock()
			defer mu.Unlock()
			for _, r := range f.results {
				if r.Outcome != "PASSED" {
					fmt.Fprintf(os.Stderr, "%-8s %s: %s\n", r.Outcome, r.Module, strings.Join(r.Reasons, "; "))
				}
			}
			if f.err == nil && module == "" {
				f.err = kept.put(p, f.results)
			}
			var counts []any
			for _, outcome := range outcomes {
				counts = append(counts, count(f.results, outcome))
			}
			fmt.Printf(row, append([]any{p}, counts...)...)
		})
	}
	group.Wait()
	for _, f := range done {
		if f.err != nil {
			return done, fmt.Errorf("%s: %w", f.plan, f.err)
		}
	}
	if !slices.ContainsFunc(done, func(f *finished) bool { return len(f.results) > 0 }) {
		return done, errors.New("no module ran: see --plan and --module")
	}
	return done, nil
}

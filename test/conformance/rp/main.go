package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
)

func main() {
	address := flag.String("suite", "", "URL of the conformance suite")
	only := flag.String("plan", "", "run only the plans whose name or variant contains this")
	module := flag.String("module", "", "run only the modules whose name contains this")
	parallel := flag.Int("parallel", 2, "how many plans run in parallel")
	write := flag.String("write", "", "write the results to this file, such as docs/conformance-relying-party.md")
	flag.Parse()
	if *address == "" {
		fmt.Fprintln(os.Stderr, "no suite: pass --suite URL")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	s := newSuite(strings.TrimSuffix(*address, "/"))
	done, err := runAll(ctx, s, *only, *module, max(*parallel, 1))
	if err == nil && *write != "" {
		err = writeReport(ctx, s, *write, done)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	for _, p := range done {
		if p.count("FAILED") > 0 {
			os.Exit(1)
		}
	}
}

// finished is a plan that was run.
type finished struct {
	plan    plan
	results []result
	err     error
}

func (f *finished) count(outcome string) int {
	n := 0
	for _, r := range f.results {
		if r.outcome == outcome {
			n++
		}
	}
	return n
}

// outcomes are the results that a module can have, in the order of the table.
var outcomes = []string{"PASSED", "REVIEW", "WARNING", "FAILED", "SKIPPED"}

// runAll runs the selected plans and prints each when it ends.
func runAll(ctx context.Context, s *suite, only, module string, parallel int) ([]*finished, error) {
	plans, err := readPlans()
	if err != nil {
		return nil, err
	}
	const row = "%-90s %7v %7v %7v %7v %7v\n"
	fmt.Printf(row, "plan", "passed", "review", "warned", "failed", "skipped")
	var (
		done  []*finished
		group sync.WaitGroup
		mu    sync.Mutex // of the output
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
				if r.outcome != "PASSED" {
					fmt.Fprintf(os.Stderr, "%-8s %s: %s\n", r.outcome, r.module, strings.Join(r.reasons, "; "))
				}
			}
			var counts []any
			for _, outcome := range outcomes {
				counts = append(counts, f.count(outcome))
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

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
)

func main() {
	address := flag.String("suite", "", "URL of the conformance suite")
	only := flag.String("plan", "", "run only the plans whose name contains this")
	module := flag.String("module", "", "run only the modules whose name contains this")
	flag.Parse()
	if *address == "" {
		fmt.Println("no --suite: the relying-party plans are left out")
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	failed, err := run(ctx, strings.TrimSuffix(*address, "/"), *only, *module)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if failed > 0 {
		os.Exit(1)
	}
}

// outcomes are the results that are counted, in the order of the table.
var outcomes = []string{"PASSED", "REVIEW", "WARNING", "FAILED", "SKIPPED"}

func run(ctx context.Context, address, only, module string) (failed int, err error) {
	plans, err := readPlans()
	if err != nil {
		return 0, err
	}
	suite := newSuite(address)
	const row = "%-90s %7v %7v %7v %7v %7v\n"
	fmt.Printf(row, "plan", "passed", "review", "warned", "failed", "skipped")
	for _, p := range plans {
		if !strings.Contains(p.Plan, only) {
			continue
		}
		results, err := p.run(ctx, suite, module)
		if err != nil {
			return failed, fmt.Errorf("%s: %w", p.Plan, err)
		}
		counts := map[string]int{}
		for _, r := range results {
			counts[r.outcome]++
			if r.outcome != "PASSED" {
				fmt.Fprintf(os.Stderr, "%-8s %s: %s\n", r.outcome, r.module, strings.Join(r.reasons, "; "))
			}
		}
		failed += counts["FAILED"]
		fmt.Printf(row, p, counts["PASSED"], counts["REVIEW"], counts["WARNING"], counts["FAILED"], counts["SKIPPED"])
	}
	return failed, nil
}

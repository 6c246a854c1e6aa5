package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/pgtest"
)

// pair is two servers that are compared. Both run at the same time, and get the same
// requests by turns, so that other load on the machine affects both.
type pair struct {
	names   [2]string
	options [2]options
	limited bool // the second may take only so much more CPU time (limitOf)
}

// Each worker sends a request to one server, and then the same one to the other, so that other load on the
// machine affects both. The requests are counted in short rounds. Several pairs of servers are started, one
// after the other: two processes of the same program differ by up to 5 %, for as long as they run.
const (
	roundTime = 20 * time.Millisecond // about how much CPU time of a server a round takes
	// signInRoundTime is longer, because the audit records of many sign-ins are added to the chain at once.
	signInRoundTime = 200 * time.Millisecond
	// pairRounds is the number of rounds of each pair of servers.
	pairRounds = 40
	// minRounds is after how many rounds the ratio may be known well enough.
	minRounds = 3 * pairRounds
	// wellKnown is how wide the interval of a ratio is that is not compared with a limit.
	wellKnown = 0.01
)

// measureSince compares the program of this tree with an older one.
func measureSince(ctx context.Context, o options) error {
	old := o
	old.Binary = o.Since
	return pair{names: [2]string{"before", "now"}, options: [2]options{old, o}}.measure(ctx, o)
}

// measure measures the selected scenarios.
func (p pair) measure(ctx context.Context, o options) (err error) {
	selected, _, err := chosen(o.Only)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "valetkey-pair")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	o.Binary = filepath.Join(dir, "valetkey")
	client, err := newKeys()
	if err != nil {
		return err
	}
	all := make([]comparison, len(selected))
	for n := range o.Pairs {
		folder := filepath.Join(dir, fmt.Sprint(n))
		if err := p.measurePair(ctx, o, folder, client, selected, all); err != nil {
			return err
		}
	}
	var above []string
	for i, s := range selected {
		c := &all[i]
		fmt.Println(p.describe(s, c))
		if ratio, most := c.ratio(), p.limitOf(s); most > 0 && !(ratio <= most) {
			above = append(above, fmt.Sprintf("%s takes %.3f times its CPU time %s, more than %.2f", s.name, ratio, p.names[0], most))
		}
	}
	if o.Limits && len(above) > 0 {
		return fmt.Errorf("above the limit: %s", strings.Join(above, "; "))
	}
	return nil
}

// measurePair starts two servers, and adds rounds to the scenarios whose ratio is not known well enough.
func (p pair) measurePair(ctx context.Context, o options, dir string, client keys, selected []scenario, all []comparison) (err error) {
	var servers [2]*server
	for i, own := range p.options {
		folder := filepath.Join(dir, fmt.Sprint(i))
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
		switch own.Database {
		case "":
			own.Database = "sqlite:" + filepath.Join(folder, "load.db")
		case "postgres":
			temporary, failed := pgtest.StartTemporary()
			if failed != nil {
				return failed
			}
			defer func() { err = errors.Join(err, temporary.Stop()) }()
			own.Database = temporary.URL
		default:
			return errors.New("a comparison of two servers needs two new databases: pass no -database, or -database postgres")
		}
		if own.Binary == "" {
			own.Binary = o.Binary
			if _, err := os.Stat(own.Binary); err != nil {
				if err := build(ctx, own); err != nil {
					return err
				}
			}
		}
		provider, err := startProvider(client)
		if err != nil {
			return err
		}
		defer provider.Close()
		if servers[i], err = startServer(ctx, own, folder, provider.URL, client); err != nil {
			return err
		}
		defer servers[i].stop()
		if err := servers[i].settle(ctx); err != nil {
			return err
		}
	}
	for i, s := range selected {
		if all[i].sure(p.limitOf(s)) {
			continue
		}
		if err := compareRounds(ctx, o, s, servers, client, &all[i]); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		fmt.Fprintln(os.Stderr, p.describe(s, &all[i]))
	}
	return nil
}

// limitOf returns how much CPU time the second server may take, as a multiple of the first's; 0 if it is not
// limited.
func (p pair) limitOf(s scenario) float64 {
	if !p.limited {
		return 0
	}
	return cmp.Or(s.observed, maxObserved)
}

// describe returns the result of a scenario as a line.
func (p pair) describe(s scenario, c *comparison) string {
	low, high := c.interval()
	return fmt.Sprintf("%-24s CPU %.2f µs %s, %.2f %s; ratio %.3f (95 %%: %.3f to %.3f; %d rounds)",
		s.name, median(c.costs[0]), p.names[0], median(c.costs[1]), p.names[1], c.ratio(), low, high, len(c.ratios))
}

// compareRounds adds the rounds of a pair of servers to a comparison.
func compareRounds(ctx context.Context, o options, s scenario, servers [2]*server, client keys, c *comparison) (err error) {
	long := roundTime
	if s.most > 0 {
		o.Concurrency, long = min(o.Concurrency, signInsAtOnce), signInRoundTime
	}
	var requests [2]request
	for i, server := range servers {
		if requests[i], err = s.prepare(ctx, server.target, client); err != nil {
			return err
		}
	}
	both := alternately(requests)
	if o.Requests, err = requestsOfRound(ctx, o, servers, both, long); err != nil {
		return err
	}
	for range pairRounds {
		cpu, err := round(ctx, o, servers, both)
		if err != nil {
			return err
		}
		c.add(cpu)
	}
	return nil
}

// requestsOfRound warms both servers up, and returns how many requests take so much CPU time.
func requestsOfRound(ctx context.Context, o options, servers [2]*server, both request, long time.Duration) (int, error) {
	o.Requests = o.Concurrency
	for {
		cpu, err := round(ctx, o, servers, both)
		if err != nil {
			return 0, err
		}
		if took := time.Duration(cpu[0] * float64(o.Requests) * float64(time.Microsecond)); took >= 4*long { // the first requests take longer
			return max(o.Concurrency, int(float64(o.Requests)*float64(long)/float64(took))), nil
		}
		o.Requests *= 2
	}
}

// alternately returns a request that each worker sends to one server and then to the other one.
func alternately(requests [2]request) request {
	var first [maxWorkers]int
	return func(ctx context.Context, worker int) error {
		first[worker] = 1 - first[worker]
		for i := range requests {
			if err := requests[i^first[worker]](ctx, worker); err != nil {
				return err
			}
		}
		return nil
	}
}

// round measures both servers, and returns the CPU time of a request in µs.
func round(ctx context.Context, o options, servers [2]*server, both request) (cpu [2]float64, err error) {
	var before [2]time.Duration
	for i, s := range servers {
		if before[i], err = s.cpu(); err != nil {
			return cpu, err
		}
	}
	if _, err := flood(ctx, o.Requests, o.Concurrency, o.longest(), both, 0); err != nil {
		return cpu, err
	}
	for i, s := range servers {
		after, err := s.cpu()
		if err != nil {
			return cpu, err
		}
		cpu[i] = float64(after-before[i]) / float64(time.Microsecond) / float64(o.Requests)
	}
	return cpu, nil
}

// comparison is the rounds of a scenario.
type comparison struct {
	costs  [2][]float64 // in µs of CPU time
	ratios []float64    // of the second server to the first one, sorted
}

func (c *comparison) add(cpu [2]float64) {
	for i := range cpu {
		c.costs[i] = append(c.costs[i], cpu[i])
	}
	c.ratios = append(c.ratios, cpu[1]/cpu[0])
	slices.Sort(c.ratios)
}

// ratio is the median of the rounds: a round in which something else ran does not count more than others.
func (c *comparison) ratio() float64 { return median(c.ratios) }

// interval is the confidence interval of the median at 95 %, from the ranks of the ratios: it assumes
// nothing about how they are distributed.
func (c *comparison) interval() (low, high float64) {
	n := float64(len(c.ratios))
	rank := max(0, int(n/2-1.96*math.Sqrt(n)/2))
	return c.ratios[rank], c.ratios[len(c.ratios)-1-rank]
}

// sure reports whether more rounds are not needed. A ratio above the limit is never sure: it may be the fault
// of what else ran so far.
func (c *comparison) sure(limit float64) bool {
	if len(c.ratios) < minRounds {
		return false
	}
	low, high := c.interval()
	if limit == 0 {
		return high-low < wellKnown
	}
	return high <= limit
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

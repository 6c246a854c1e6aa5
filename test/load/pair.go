package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/valetkey/valetkey/internal/pgtest"
)

// pair is two servers that are compared. Both run at the same time, and are measured in turns, so that
// other load on the machine affects both.
type pair struct {
	names   [2]string
	options [2]options
	most    float64 // how much CPU time the second may take, as a multiple of the first's; 0 if it is not limited
}

// pairRounds is how often a scenario is measured with both. Each round starts with the other one, and has
// a part of the requests.
const pairRounds = 20

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
	var servers [2]*server
	for i, own := range p.options {
		folder := filepath.Join(dir, fmt.Sprint(i))
		if err := os.Mkdir(folder, 0o700); err != nil {
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
	var above []string
	for _, s := range selected {
		ratio, err := p.compare(ctx, o, s, servers, client)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if p.most > 0 && !(ratio <= p.most) {
			above = append(above, fmt.Sprintf("%s takes %.3f times its CPU time %s, more than %.2f", s.name, ratio, p.names[0], p.most))
		}
	}
	for i, server := range servers {
		m := server.memory()
		fmt.Printf("%s: resident %.1f MiB, %.1f MiB without the program file\n", p.names[i], m.Resident, m.Own)
	}
	if o.Limits && len(above) > 0 {
		return fmt.Errorf("above the limit: %s", strings.Join(above, "; "))
	}
	return nil
}

// compare prints the result of a scenario, and returns the median of the ratios of the rounds.
func (p pair) compare(ctx context.Context, o options, s scenario, servers [2]*server, client keys) (ratio float64, err error) {
	if s.most > 0 {
		o.Requests, o.Concurrency = min(o.Requests, s.most), min(o.Concurrency, signInsAtOnce)
	}
	o.Requests = max(1, o.Requests/pairRounds)
	var requests [2]request
	for i, server := range servers {
		if requests[i], err = s.prepare(ctx, server.target, client); err != nil {
			return 0, err
		}
	}
	var ratios []float64
	var costs [2][]float64
	for round := range pairRounds {
		var cpu [2]float64
		for turn := range servers {
			i := (round + turn) % 2
			f, err := measure(ctx, servers[i].target, o, requests[i])
			if err != nil {
				return 0, err
			}
			cpu[i] = f.CPU
			costs[i] = append(costs[i], f.CPU)
		}
		ratios = append(ratios, cpu[1]/cpu[0])
	}
	ratio = median(ratios)
	fmt.Printf("%-24s CPU %.4f s per 1000 %s, %.4f %s (medians); median ratio %.3f (%.3f to %.3f)\n",
		s.name, median(costs[0]), p.names[0], median(costs[1]), p.names[1], ratio, slices.Min(ratios), slices.Max(ratios))
	return ratio, nil
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

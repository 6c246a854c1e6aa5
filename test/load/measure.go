package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// figures are what one scenario cost.
type figures struct {
	CPU        float64 `json:"cpu_seconds_per_1000"`
	Throughput float64 `json:"requests_per_second"`
	P50        float64 `json:"p50_ms"`
	P95        float64 `json:"p95_ms"`
	P99        float64 `json:"p99_ms"`
	// Fsync is the 99th percentile of a bare fsync meanwhile; 0 if it was not measured.
	Fsync float64 `json:"fsync_p99_ms,omitempty"`
}

type result struct {
	Scenario string  `json:"scenario"`
	Server   figures `json:"server"`
	Floor    figures `json:"floor"`
	Ratio    float64 `json:"ratio"`
	Limit    float64 `json:"limit"`
}

func (r result) String() string {
	verdict := "within"
	if r.Ratio > r.Limit {
		verdict = "ABOVE"
	}
	return fmt.Sprintf("%-24s %6.0f/s  p50 %5.2f  p95 %6.2f  p99 %6.2f ms (floor %.2f, fsync %.2f)  CPU %.3f s per 1000 (floor %.3f)  ratio %.2f, %s %.2f",
		r.Scenario, r.Server.Throughput, r.Server.P50, r.Server.P95, r.Server.P99, r.Floor.P99, r.Server.Fsync, r.Server.CPU, r.Floor.CPU, r.Ratio, verdict, r.Limit)
}

// compare measures the server and the floor.
func compare(ctx context.Context, name string, o options, subject *target, prepared request, floor *target, bare request) (result, error) {
	ours, err := measure(ctx, subject, o, prepared)
	if err != nil {
		return result{}, fmt.Errorf("%s: %w", name, err)
	}
	least, err := measure(ctx, floor, o, bare)
	if err != nil {
		return result{}, fmt.Errorf("floor of %s: %w", name, err)
	}
	return result{Scenario: name, Limit: limitOf(name, o.Database), Server: ours, Floor: least, Ratio: ours.CPU / least.CPU}, nil
}

// measure sends the requests, after a tenth of them to warm up.
func measure(ctx context.Context, t *target, o options, send request) (figures, error) {
	if _, err := flood(ctx, o.Requests/10, o.Concurrency, o.longest()/10, send, 0); err != nil {
		return figures{}, err
	}
	before, err := t.cpu()
	if err != nil {
		return figures{}, err
	}
	t.disk.taken()
	began := time.Now()
	times, err := flood(ctx, o.Requests, o.Concurrency, o.longest(), send, 0)
	if err != nil {
		return figures{}, err
	}
	took := time.Since(began)
	after, err := t.cpu()
	if err != nil {
		return figures{}, err
	}
	f := latencies(times)
	f.CPU = (after - before).Seconds() / float64(len(times)) * 1000
	f.Throughput = float64(len(times)) / took.Seconds()
	f.Fsync = percentile(t.disk.taken(), 99)
	return f, nil
}

// latencies returns the percentiles of times.
func latencies(times []time.Duration) figures {
	return figures{P50: percentile(times, 50), P95: percentile(times, 95), P99: percentile(times, 99)}
}

// flood sends requests until they are all sent or the time is over, and returns how long each took.
// Each worker waits for pause before each request.
func flood(ctx context.Context, requests, concurrency int, longest time.Duration, send request, pause time.Duration) ([]time.Duration, error) {
	end := time.Now().Add(longest)
	var left atomic.Int64
	left.Store(int64(requests))
	times := make([][]time.Duration, concurrency)
	failures := make(chan error, concurrency)
	var workers sync.WaitGroup
	for worker := range concurrency {
		workers.Go(func() {
			for left.Add(-1) >= 0 {
				time.Sleep(pause)
				began := time.Now()
				if !began.Before(end) {
					return
				}
				if err := send(ctx, worker); err != nil {
					failures <- err
					return
				}
				times[worker] = append(times[worker], time.Since(began))
			}
		})
	}
	workers.Wait()
	select {
	case err := <-failures:
		return nil, err
	default:
		return slices.Concat(times...), nil
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/pgtest"
)

// maxObserved is how much more CPU time a request may take if it is measured.
const maxObserved = 1.05

// observedRounds is how often a scenario is measured with and without telemetry, in turns, so that other
// load on the machine affects both. Each round starts with the other one, and has a part of the requests.
const observedRounds = 20

// observation is where a server under load sends its telemetry.
type observation struct{ metrics, receiver string }

// section returns the part of the configuration file.
func (o *observation) section() string {
	if o == nil {
		return ""
	}
	return fmt.Sprintf("\ntelemetry: {metrics_listen: %q, otlp_endpoint: %q, sample_ratio: 0.01}\n", o.metrics, o.receiver)
}

// readEvery is how often the metrics are read.
const readEvery = 15 * time.Second

// measureObserved compares a server with telemetry with one without: metrics that are read and sent, and
// traces of one request in a hundred.
func measureObserved(ctx context.Context, o options) (err error) {
	selected, _, err := chosen(o.Only)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "valetkey-observed")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if o.Binary == "" {
		o.Binary = filepath.Join(dir, "valetkey")
		if err := build(ctx, o); err != nil {
			return err
		}
	}
	client, err := newKeys()
	if err != nil {
		return err
	}
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // an error means that the server has ended
	}))
	defer receiver.Close()
	var servers [2]*server // without and with telemetry
	for i := range servers {
		own := o
		folder := filepath.Join(dir, fmt.Sprint(i))
		if err := os.Mkdir(folder, 0o700); err != nil {
			return err
		}
		switch o.Database {
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
			return errors.New("-observed needs two new databases: pass no -database, or -database postgres")
		}
		if i == 1 {
			address, err := freeAddress()
			if err != nil {
				return err
			}
			own.observed = &observation{address, receiver.URL}
			reading, stop := context.WithCancel(ctx)
			defer stop()
			go readMetrics(reading, "http://"+address+"/metrics")
		}
		if servers[i], err = startServer(ctx, own, folder, client); err != nil {
			return err
		}
		defer servers[i].stop()
		if err := servers[i].settle(ctx); err != nil {
			return err
		}
	}
	var above []string
	for _, s := range selected {
		ratio, text, err := s.observed(ctx, o, servers, client)
		if err != nil {
			return err
		}
		fmt.Println(text)
		if !(ratio <= maxObserved) {
			above = append(above, fmt.Sprintf("%s takes %.3f times its CPU time without telemetry, more than %.2f", s.name, ratio, maxObserved))
		}
	}
	if o.Limits && len(above) > 0 {
		return fmt.Errorf("above the limit: %s", strings.Join(above, "; "))
	}
	return nil
}

// observed returns the median of the ratios of the rounds.
func (s scenario) observed(ctx context.Context, o options, servers [2]*server, client keys) (ratio float64, text string, err error) {
	if s.most > 0 {
		o.Requests, o.Concurrency = min(o.Requests, s.most), min(o.Concurrency, signInsAtOnce)
	}
	o.Requests = max(1, o.Requests/observedRounds)
	var requests [2]request
	for i, server := range servers {
		if requests[i], err = s.prepare(ctx, server.target, client); err != nil {
			return 0, "", fmt.Errorf("%s: %w", s.name, err)
		}
	}
	var ratios []float64
	var sums [2]float64
	for round := range observedRounds {
		var cpu [2]float64
		for turn := range servers {
			i := (round + turn) % 2
			f, err := measure(ctx, servers[i].target, o, requests[i])
			if err != nil {
				return 0, "", fmt.Errorf("%s: %w", s.name, err)
			}
			cpu[i] = f.CPU
			sums[i] += f.CPU
		}
		ratios = append(ratios, cpu[1]/cpu[0])
	}
	slices.Sort(ratios)
	n := len(ratios)
	ratio = (ratios[(n-1)/2] + ratios[n/2]) / 2
	return ratio, fmt.Sprintf("%-24s CPU %.4f s per 1000 without telemetry, %.4f with it; median ratio %.3f (%.3f to %.3f)",
		s.name, sums[0]/float64(n), sums[1]/float64(n), ratio, ratios[0], ratios[n-1]), nil
}

// readMetrics reads the metrics as Prometheus does, until ctx is done.
func readMetrics(ctx context.Context, address string) {
	often := time.NewTicker(readEvery)
	defer often.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-often.C:
		}
		if response, err := http.Get(address); err == nil { // an error means that the server is starting or has ended
			_, _ = io.Copy(io.Discard, response.Body)
			response.Body.Close()
		}
	}
}

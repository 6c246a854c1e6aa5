package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"
)

// maxObserved is how much more CPU time a request may take with telemetry and the audit log, unless its
// scenario has a limit of its own.
const maxObserved = 1.05

// readEvery is how often the metrics are read.
const readEvery = 15 * time.Second

// measureObserved compares a server that records everything with one that records nothing: the audit log,
// metrics that are read and sent, and traces of one request in a hundred.
func measureObserved(ctx context.Context, o options) error {
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // an error means that the server has ended
	}))
	defer receiver.Close()
	address, err := freeAddress()
	if err != nil {
		return err
	}
	reading, stop := context.WithCancel(ctx)
	defer stop()
	go readMetrics(reading, "http://"+address+"/metrics")
	off, on := o, o
	off.settings = "\naudit: {record: \"off\"}\n"
	on.settings = fmt.Sprintf("\naudit: {record: \"on\"}\ntelemetry: {metrics_listen: %q, otlp_endpoint: %q, sample_ratio: 0.01}\n", address, receiver.URL)
	return pair{names: [2]string{"with all of it off", "on"}, options: [2]options{off, on}, limited: true}.measure(ctx, o)
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

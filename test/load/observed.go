package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"
)

// maxObserved is how much more CPU time a request may take if it is measured.
const maxObserved = 1.05

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
	with := o
	with.observed = &observation{address, receiver.URL}
	return pair{names: [2]string{"without telemetry", "with it"}, options: [2]options{o, with}, most: maxObserved}.measure(ctx, o)
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

package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	maxQueued  = 4096 // spans that wait to be sent
	maxBatch   = 512  // spans of a request
	spansEvery = 5 * time.Second
	// sendTimeout limits a request to the receiver, and everything that is sent at a shutdown.
	sendTimeout = 5 * time.Second
	// attempts is how often a batch is sent that the receiver does not accept at the moment.
	attempts = 3
)

func newClient() *http.Client {
	return &http.Client{
		Timeout:       sendTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Sends reports whether Run has anything to do.
func (t *Telemetry) Sends() bool { return t != nil && t.config.Endpoint != "" }

// Run sends spans and metrics to the Endpoint until ctx is done, and then what is left.
func (t *Telemetry) Run(ctx context.Context, log *slog.Logger) {
	if !t.Sends() {
		return
	}
	defer t.client.CloseIdleConnections()
	often := time.NewTicker(spansEvery)
	defer often.Stop()
	metrics := time.NewTicker(t.config.MetricsEvery)
	defer metrics.Stop()
	var batch []*recorded
	for {
		select {
		case <-ctx.Done():
			rest, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTimeout)
			defer cancel()
			t.sendSpans(rest, log, t.waiting(batch))
			t.sendMetrics(rest, log)
			return
		case <-metrics.C:
			t.sendMetrics(ctx, log)
		case s := <-t.spans:
			if batch = append(batch, s); len(batch) == maxBatch {
				t.sendSpans(ctx, log, batch)
				batch = nil
			}
		case <-often.C:
			t.sendSpans(ctx, log, batch)
			batch = nil
		}
	}
}

// waiting adds the spans that wait.
func (t *Telemetry) waiting(batch []*recorded) []*recorded {
	for {
		select {
		case s := <-t.spans:
			batch = append(batch, s)
		default:
			return batch
		}
	}
}

func (t *Telemetry) sendSpans(ctx context.Context, log *slog.Logger, spans []*recorded) {
	if len(spans) == 0 {
		return
	}
	if err := t.sendAgain(ctx, "/v1/traces", t.encodeSpans(spans)); err != nil {
		t.dropped.add(int64(len(spans)), values{})
		t.sendResult(ctx, log, err)
		return
	}
	t.sendResult(ctx, log, nil)
}

func (t *Telemetry) sendMetrics(ctx context.Context, log *slog.Logger) {
	t.collect(ctx)
	// A failed attempt loses nothing: the next one has the same sums.
	t.sendResult(ctx, log, t.send(ctx, "/v1/metrics", t.encodeMetrics(time.Now())))
}

// sendResult logs when sending begins to fail, and when it works again.
func (t *Telemetry) sendResult(ctx context.Context, log *slog.Logger, err error) {
	if err != nil {
		t.sendFailed.add(1, values{})
	}
	if before := t.failing.Swap(err != nil); before == (err != nil) {
		return
	}
	if err != nil {
		log.WarnContext(ctx, "telemetry is not accepted by the receiver", "error", err)
		return
	}
	log.InfoContext(ctx, "telemetry is accepted by the receiver again")
}

// errTryAgain means that the receiver may accept the same request later.
var errTryAgain = errors.New("the receiver is busy")

// sendAgain sends a request up to attempts times.
func (t *Telemetry) sendAgain(ctx context.Context, path string, body []byte) (err error) {
	for attempt := range attempts {
		if attempt > 0 {
			select {
			case <-ctx.Done():
				return err
			case <-time.After(time.Second << attempt / 2):
			}
		}
		if err = t.send(ctx, path, body); !errors.Is(err, errTryAgain) {
			return err
		}
	}
	return err
}

// send sends a request. The error contains neither the URL, which may have a password, nor a header.
func (t *Telemetry) send(ctx context.Context, path string, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(t.config.Endpoint, "/")+path, bytes.NewReader(body))
	if err != nil {
		return errors.New("the address of the receiver is malformed")
	}
	for name, value := range t.config.Headers {
		r.Header.Set(name, value)
	}
	r.Header.Set("Content-Type", "application/x-protobuf")
	response, err := t.client.Do(r)
	if err != nil {
		if failed, ok := errors.AsType[*url.Error](err); ok {
			err = failed.Err
		}
		return fmt.Errorf("%w: %w", errTryAgain, err)
	}
	defer response.Body.Close()
	_, _ = io.CopyN(io.Discard, response.Body, 64<<10) // lets the connection be used again
	switch response.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return fmt.Errorf("%w: status %d", errTryAgain, response.StatusCode)
	}
	return fmt.Errorf("status %d", response.StatusCode)
}

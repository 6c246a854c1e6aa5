package valetkey

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/valetkey/valetkey/internal/doctor"
	"github.com/valetkey/valetkey/manage"
)

const (
	// checksKept is how long the result of the checks is shown before they run again.
	checksKept = 30 * time.Second
	// checksWait is how long a request waits for a result. The checks ask this server, and go on when
	// the request has ended.
	checksWait = 8 * time.Second
)

// healthChecks runs the checks of "valetkey doctor" when an operator asks for them, once at a time. What
// they connect to is in the configuration; no request has a say in it.
type healthChecks struct {
	// run runs the checks, and start runs a function that Close waits for. ctx ends at Close.
	run   func(context.Context) (*doctor.Report, error)
	start func(func())
	ctx   context.Context

	mu      sync.Mutex
	report  *doctor.Report
	at      time.Time
	running chan struct{} // closed when the run ends; nil if there is none
}

// get returns the latest result. It runs the checks if that is old, and waits for a while.
func (h *healthChecks) get(ctx context.Context) manage.Checks {
	h.mu.Lock()
	if h.running == nil && (h.report == nil || time.Since(h.at) >= checksKept) {
		ended := make(chan struct{})
		h.running = ended
		h.start(func() {
			report, err := h.run(h.ctx)
			h.mu.Lock()
			defer h.mu.Unlock()
			if err == nil {
				h.report, h.at = report, time.Now()
			}
			h.running = nil
			close(ended)
		})
	}
	running := h.running
	h.mu.Unlock()
	if running != nil {
		timeout := time.NewTimer(checksWait)
		defer timeout.Stop()
		select {
		case <-running:
		case <-timeout.C:
		case <-ctx.Done():
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return manage.Checks{Report: h.report, At: h.at, Running: h.running != nil}
}

// diagnose runs the checks of "valetkey doctor" on this server.
func (s *Server) diagnose(ctx context.Context) (*doctor.Report, error) {
	report, err := doctor.Run(ctx, doctor.Options{
		Issuer: s.config.Issuer, Configuration: &s.config.Configuration, ConfigurationFile: s.config.File, Version: Version, Key: (*s.probeKeys.Load())[0],
		MasterKeys: s.store.InspectMasterKeys,
	})
	if err != nil {
		s.log.ErrorContext(ctx, "health checks not run", "error", err)
	}
	return report, err
}

// state returns what the node says about itself.
func (s *Server) state(ctx context.Context) manage.State {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	return manage.State{NotReady: s.isReady(ctx), Details: s.readinessLines(), Node: host, Started: s.started}
}

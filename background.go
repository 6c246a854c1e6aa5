package valetkey

import (
	"context"
	"errors"
	"runtime/debug"
	"time"
)

// keepHouse does periodic maintenance until ctx is done.
func (s *Server) keepHouse(ctx context.Context) {
	minute := time.NewTicker(time.Minute)
	defer minute.Stop()
	hour := time.NewTicker(time.Hour)
	defer hour.Stop()
	// Generating RSA keys takes long; requests are handled meanwhile.
	s.chore(ctx, "create signing keys", func(ctx context.Context) error { return s.engine.PrepareKeys(ctx) })
	for {
		select {
		case <-ctx.Done():
			return
		case <-minute.C:
			s.chore(ctx, "remove expired records", func(ctx context.Context) error {
				_, err := s.store.Reclaim(ctx, time.Now())
				return err
			})
			s.chore(ctx, "remove retired records", func(ctx context.Context) error { return s.removeRetired(ctx) })
		case <-s.engine.KeysDue():
			s.chore(ctx, "create signing keys", func(ctx context.Context) error { return s.engine.PrepareKeys(ctx) })
		case <-hour.C:
			s.chore(ctx, "rotate signing keys", func(ctx context.Context) error { return s.engine.PrepareKeys(ctx) })
		}
	}
}

// logoutsEvery is how often this node looks for logouts that other nodes have left, and for
// those that are due for another attempt.
const logoutsEvery = 5 * time.Second

// deliverLogouts notifies clients of ended sessions until ctx is done.
func (s *Server) deliverLogouts(ctx context.Context) {
	often := time.NewTicker(logoutsEvery)
	defer often.Stop()
	for {
		s.chore(ctx, "notify clients of logouts", func(ctx context.Context) error { return s.engine.DeliverLogouts(ctx) })
		select {
		case <-ctx.Done():
			return
		case <-often.C:
		case <-s.engine.LogoutsDue():
		}
	}
}

// choreTimeout limits one background task.
const choreTimeout = 5 * time.Minute

// chore runs a background task. Errors and panics are logged; the task runs again at its next
// turn.
func (s *Server) chore(ctx context.Context, what string, do func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, choreTimeout)
	defer cancel()
	defer func() {
		if failure := recover(); failure != nil {
			s.log.ErrorContext(ctx, "panic", "in", what, "panic", failure, "stack", string(debug.Stack()))
		}
	}()
	if err := do(ctx); err != nil && !errors.Is(ctx.Err(), context.Canceled) {
		s.log.ErrorContext(ctx, "cannot "+what, "error", err)
	}
}

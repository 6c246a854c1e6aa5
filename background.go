package valetkey

import (
	"context"
	"errors"
	"runtime/debug"
	"time"
)

// keepHouse does what must be done now and then, until ctx ends.
func (s *Server) keepHouse(ctx context.Context) {
	minute := time.NewTicker(time.Minute)
	defer minute.Stop()
	hour := time.NewTicker(time.Hour)
	defer hour.Stop()
	// RSA keys take long to make: people are served meanwhile.
	s.chore(ctx, "make signing keys", func(ctx context.Context) error { return s.engine.PrepareKeys(ctx) })
	for {
		select {
		case <-ctx.Done():
			return
		case <-minute.C:
			s.chore(ctx, "reclaim the space of what has expired", func(ctx context.Context) error {
				_, err := s.store.Reclaim(ctx, time.Now())
				return err
			})
			s.chore(ctx, "remove retired records", func(ctx context.Context) error { return s.removeRetired(ctx) })
		case <-s.engine.KeysDue():
			s.chore(ctx, "make signing keys", func(ctx context.Context) error { return s.engine.PrepareKeys(ctx) })
		case <-hour.C:
			s.chore(ctx, "rotate signing keys", func(ctx context.Context) error { return s.engine.PrepareKeys(ctx) })
		}
	}
}

// logoutsEvery is how often this node looks for logouts that others have left, and for those
// that are to be tried again.
const logoutsEvery = 5 * time.Second

// deliverLogouts tells clients of the sessions that have ended, until ctx ends.
func (s *Server) deliverLogouts(ctx context.Context) {
	often := time.NewTicker(logoutsEvery)
	defer often.Stop()
	for {
		s.chore(ctx, "tell clients of logouts", func(ctx context.Context) error { return s.engine.DeliverLogouts(ctx) })
		select {
		case <-ctx.Done():
			return
		case <-often.C:
		case <-s.engine.LogoutsDue():
		}
	}
}

// choreTimeout is how long one thing in the background may take.
const choreTimeout = 5 * time.Minute

// chore does one thing in the background. A failure or panic is logged, and the next turn
// comes all the same.
func (s *Server) chore(ctx context.Context, what string, do func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, choreTimeout)
	defer cancel()
	defer func() {
		if failure := recover(); failure != nil {
			s.log.ErrorContext(ctx, "panic", "in", what, "panic", failure, "stack", string(debug.Stack()))
		}
	}()
	if err := do(ctx); err != nil && !errors.Is(ctx.Err(), context.Canceled) {
		s.log.ErrorContext(ctx, what, "error", err)
	}
}

package valetkey

import (
	"context"
	"errors"
	"os"
	"runtime/debug"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/identity/directory"
)

// asSystem returns a context for what the server does by itself, for the audit log.
func asSystem(ctx context.Context) context.Context {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	return audit.WithActor(ctx, audit.Actor{Kind: audit.KindSystem, ID: "valetkey", Address: host})
}

// maintain does periodic maintenance until ctx is done.
func (s *Server) maintain(ctx context.Context) {
	minute := time.NewTicker(time.Minute)
	defer minute.Stop()
	hour := time.NewTicker(time.Hour)
	defer hour.Stop()
	// Generating RSA keys takes long; requests are handled meanwhile.
	s.runTask(ctx, "create signing keys", func(ctx context.Context) error { return s.engine.PrepareKeys(ctx) })
	for {
		select {
		case <-ctx.Done():
			return
		case <-minute.C:
			s.runTask(ctx, "remove expired records", func(ctx context.Context) error {
				_, err := s.store.Reclaim(ctx, time.Now())
				return err
			})
			s.runTask(ctx, "maintain accounts", func(ctx context.Context) error { return s.accounts.Maintain(ctx, time.Now()) })
			s.runTask(ctx, "remove retired records", func(ctx context.Context) error { return s.removeRetired(ctx) })
		case <-s.engine.KeysDue():
			s.runTask(ctx, "create signing keys", func(ctx context.Context) error { return s.engine.PrepareKeys(ctx) })
		case <-hour.C:
			s.runTask(ctx, "rotate signing keys", func(ctx context.Context) error { return s.engine.PrepareKeys(ctx) })
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
		s.runTask(ctx, "notify clients of logouts", func(ctx context.Context) error { return s.engine.DeliverLogouts(ctx) })
		select {
		case <-ctx.Done():
			return
		case <-often.C:
		case <-s.engine.LogoutsDue():
		}
	}
}

// checkDirectory takes access from users whom a directory no longer lets in, until ctx is done.
func (s *Server) checkDirectory(ctx context.Context, d *directory.Directory) {
	if d.Interval() <= 0 {
		return
	}
	every := time.NewTicker(d.Interval())
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		s.runTask(ctx, "check the users of a directory", func(ctx context.Context) error {
			suspended, err := d.CheckUsers(ctx, s.accounts)
			if suspended > 0 {
				s.engine.SessionsEnded() // their clients are notified
			}
			return err
		})
	}
}

// mailEvery is how often this node looks for messages that other processes have left, and for
// those that are due for another attempt.
const mailEvery = 5 * time.Second

// deliverMail delivers messages to users until ctx is done.
func (s *Server) deliverMail(ctx context.Context) {
	if s.mail == nil {
		return
	}
	often := time.NewTicker(mailEvery)
	defer often.Stop()
	for {
		s.runTask(ctx, "deliver messages", s.mail.Deliver)
		select {
		case <-ctx.Done():
			return
		case <-often.C:
		case <-s.mail.Due():
		}
	}
}

// taskTimeout limits one background task.
const taskTimeout = 5 * time.Minute

// runTask runs a background task. Errors and panics are logged; the task runs again at its next
// turn.
func (s *Server) runTask(ctx context.Context, what string, do func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, taskTimeout)
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

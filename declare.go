package valetkey

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/declare"
	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/record"
)

// declarationsTopic is the topic of the readiness details about declarations.
const declarationsTopic = "declarations"

// defaultRetiredRecord is how long a record is kept after its source has stopped naming it.
const defaultRetiredRecord = 30 * 24 * time.Hour

// declared is what this server read last.
type declared struct {
	mu       sync.Mutex
	digest   string
	conflict error // of single records
}

// applyAtStart applies the declarations unless the database has had newer ones of the same
// source from another node. A record that conflicts with what is stored does not stop the
// server.
func (s *Server) applyAtStart(ctx context.Context) error {
	// Hashing new passwords may take longer than the rest of a start.
	changes, err := s.apply(context.WithoutCancel(ctx), s.config.Declarations)
	if n := declaration.Count(changes); n > 0 {
		s.events.Record(ctx, event.DeclarationsApplied, slog.String("source", s.config.Source), slog.Int("changes", n))
	}
	var conflict *declaration.ConflictError
	if errors.As(err, &conflict) {
		return nil
	}
	return err
}

// Apply puts new declarations in place of the present ones of the same source, and returns
// what that changed. The same declarations as last time are no edit: they undo nothing that
// another node applied meanwhile. The error is a *declaration.ConflictError if single records could not
// be declared; everything else was.
func (s *Server) Apply(ctx context.Context, d configuration.Declarations) ([]declaration.Change, error) {
	if err := d.ReadSecretFiles(); err != nil {
		return nil, err
	}
	changes, err := s.apply(ctx, d)
	s.engine.SessionsEnded() // of users who are disabled or retired, perhaps
	return changes, err
}

func (s *Server) apply(ctx context.Context, d configuration.Declarations) ([]declaration.Change, error) {
	s.declared.mu.Lock()
	defer s.declared.mu.Unlock()
	for _, warning := range d.Warnings(s.config.GrantTypes...) {
		s.log.WarnContext(ctx, warning)
	}
	version, err := declare.Version(s.store.Store, &d)
	if err != nil {
		return nil, err
	}
	edited := s.declared.digest != "" && s.declared.digest != version.Digest
	result, err := declare.Apply(ctx, s.store.Store, &d, declare.Options{
		Source:       s.config.Source,
		FormerSource: s.config.FormerSource,
		OnlyNewer:    !edited,
	})
	var conflict *declaration.ConflictError
	if err != nil && !errors.As(err, &conflict) {
		return nil, err
	}
	s.declared.digest, s.declared.conflict = version.Digest, err
	s.logDeclared(ctx, result)
	return result.Changes, err
}

// logDeclared says what happened to each record, and keeps the readiness detail.
func (s *Server) logDeclared(ctx context.Context, result declare.Result) {
	var details []string
	if result.Older {
		details = append(details, "this node's file is older than what another node applied; nothing was applied from it")
		s.events.Record(ctx, event.DeclarationsOlder, slog.String("source", s.config.Source), slog.Time("modified", s.config.Modified))
	}
	conflicts := 0
	for i := range result.Changes {
		c := &result.Changes[i]
		switch c.Action {
		case declaration.ActionConflict:
			conflicts++
			s.events.Record(ctx, event.DeclarationsConflict, slog.String("kind", c.Kind), slog.String("name", c.Name), slog.Any("cause", c.Problem))
		case declaration.ActionRetire:
			s.events.Record(ctx, event.DeclarationsRetired, slog.String("kind", c.Kind), slog.String("name", c.Name))
		case declaration.ActionRestore:
			s.events.Record(ctx, event.DeclarationsRestored, slog.String("kind", c.Kind), slog.String("name", c.Name))
		case declaration.ActionRemove:
			s.events.Record(ctx, event.DeclarationsRemoved, slog.String("kind", c.Kind), slog.String("name", c.Name))
		}
		if c.Adopted {
			s.events.Record(ctx, event.DeclarationsAdopted, slog.String("kind", c.Kind), slog.String("name", c.Name))
		}
		if len(c.NotNamed) > 0 {
			s.log.WarnContext(ctx, "members that the file does not name any more keep their values; null removes them", "kind", c.Kind, "name", c.Name, "members", c.NotNamed)
		}
	}
	if conflicts > 0 {
		details = append(details, fmt.Sprintf("records that could not be declared: %d", conflicts))
	}
	s.SetReadinessDetail(declarationsTopic, details...)
}

// removeRetired removes what has been retired for as long as the operator wants it kept.
func (s *Server) removeRetired(ctx context.Context) error {
	kept := time.Duration(s.config.Lifetimes.RetiredRecord)
	if kept <= 0 {
		kept = defaultRetiredRecord
	}
	removed, err := s.store.RemoveRetired(ctx, time.Now().Add(-kept))
	for _, r := range removed {
		s.events.Record(ctx, event.DeclarationsRemoved, slog.String("kind", r.Kind), slog.String("name", r.Name), slog.Duration("after", kept))
	}
	return err
}

// warnOfHooks names what hooks are limited to and is not there: a hook that is never asked
// refuses nothing.
func (s *Server) warnOfHooks(ctx context.Context) error {
	resources, err := s.store.Resources(ctx)
	if err != nil {
		return fmt.Errorf("read resources: %w", err)
	}
	for i, h := range s.config.Hooks {
		for _, id := range h.Clients {
			if _, err := s.store.Client(ctx, id); errors.Is(err, storage.ErrNotFound) {
				s.log.WarnContext(ctx, fmt.Sprintf("hooks[%d] is for the client %q, which is not there", i, id))
			} else if err != nil {
				return fmt.Errorf("read client: %w", err)
			}
		}
		for _, identifier := range h.Resources {
			if !slices.ContainsFunc(resources, func(r record.Resource) bool { return oauth.SameResource(r.Identifier, identifier) }) {
				s.log.WarnContext(ctx, fmt.Sprintf("hooks[%d] is for the resource %q, which is not there", i, identifier))
			}
		}
	}
	return nil
}

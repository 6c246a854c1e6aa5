package valetkey

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/valetkey/valetkey/audit"
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

// declared is the state of the declarations that were applied last.
type declared struct {
	mu       sync.Mutex
	digest   string
	conflict error // of single records
}

// applyAtStart applies the declarations, unless another node applied newer ones of the same
// source. A record that conflicts with what is stored does not stop the server.
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

// Apply replaces the declarations of the server's source and returns what that changed.
// Applying the same declarations again does not undo what another node has applied since. The
// error is a *declaration.ConflictError if some records could not be declared; all others
// were.
func (s *Server) Apply(ctx context.Context, d configuration.Declarations) ([]declaration.Change, error) {
	if err := d.ReadSecretFiles(); err != nil {
		return nil, err
	}
	changes, err := s.apply(ctx, d)
	s.engine.SessionsEnded() // users may have been disabled or retired
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
	ctx = audit.WithActor(ctx, audit.Actor{Kind: audit.KindFile, ID: cmp.Or(s.config.File, s.config.Source), Name: s.config.Source})
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

// logDeclared logs what happened to each record and updates the readiness detail.
func (s *Server) logDeclared(ctx context.Context, result declare.Result) {
	var details []string
	if result.Older {
		details = append(details, "this node's file is older than the one that another node applied; it was not applied")
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
		if c.Action == declaration.ActionDisplace {
			s.events.Record(ctx, event.DeclarationsDisplaced, slog.String("kind", c.Kind), slog.String("name", c.Name))
		}
		if c.Adopted {
			s.events.Record(ctx, event.DeclarationsAdopted, slog.String("kind", c.Kind), slog.String("name", c.Name))
		}
		if len(c.NotNamed) > 0 {
			s.log.WarnContext(ctx, "members that the file no longer names keep their values; null removes them", "kind", c.Kind, "name", c.Name, "members", c.NotNamed)
		}
	}
	if conflicts > 0 {
		details = append(details, fmt.Sprintf("records that could not be declared: %d", conflicts))
	}
	s.SetReadinessDetail(declarationsTopic, details...)
}

// removeRetired removes records that have been retired for longer than
// lifetimes.retired_record.
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

// warnOfHooks logs clients and resources that hooks are restricted to and that do not exist: a
// hook that is never called refuses nothing.
func (s *Server) warnOfHooks(ctx context.Context) error {
	resources, err := s.store.Resources(ctx)
	if err != nil {
		return fmt.Errorf("read resources: %w", err)
	}
	for i, h := range s.config.Hooks {
		for _, id := range h.Clients {
			if _, err := s.store.Client(ctx, id); errors.Is(err, storage.ErrNotFound) {
				s.log.WarnContext(ctx, fmt.Sprintf("hooks[%d] is restricted to the client %q, which does not exist", i, id))
			} else if err != nil {
				return fmt.Errorf("read client: %w", err)
			}
		}
		for _, identifier := range h.Resources {
			if !slices.ContainsFunc(resources, func(r record.Resource) bool { return oauth.SameResource(r.Identifier, identifier) }) {
				s.log.WarnContext(ctx, fmt.Sprintf("hooks[%d] is restricted to the resource %q, which does not exist", i, identifier))
			}
		}
	}
	return nil
}

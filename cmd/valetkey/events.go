package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/storage/declaration"
)

// leaveEvent leaves an event for the log of the servers on a database.
func leaveEvent(ctx context.Context, store *database.Database, kind *event.Kind, members ...slog.Attr) error {
	if err := event.Enqueue(ctx, store, time.Now(), kind, append(members, slog.String("operator", operator()))...); err != nil {
		return fmt.Errorf("the change was made, but is missing in the log of the server: %w", err)
	}
	return nil
}

// operatorActor says in the audit log who runs a command.
func operatorActor() audit.Actor {
	name, host, _ := strings.Cut(operator(), "@")
	return audit.Actor{Kind: audit.KindOperator, ID: name, Name: "command line", Address: host}
}

// operator names the user of the operating system, and the host.
func operator() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

// leaveChanges leaves the events of an apply.
func leaveChanges(ctx context.Context, store *database.Database, source string, changes []declaration.Change) error {
	if n := declaration.Count(changes); n > 0 {
		if err := leaveEvent(ctx, store, event.DeclarationsApplied, slog.String("source", source), slog.Int("changes", n)); err != nil {
			return err
		}
	}
	for i := range changes {
		c := &changes[i]
		kinds := []*event.Kind{}
		switch c.Action {
		case declaration.ActionRestore:
			kinds = append(kinds, event.DeclarationsRestored)
		case declaration.ActionRemove:
			kinds = append(kinds, event.DeclarationsRemoved)
		case declaration.ActionDisplace:
			kinds = append(kinds, event.DeclarationsDisplaced)
		}
		if c.Adopted {
			kinds = append(kinds, event.DeclarationsAdopted)
		}
		for _, kind := range kinds {
			if err := leaveEvent(ctx, store, kind, slog.String("kind", c.Kind), slog.String("name", c.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}

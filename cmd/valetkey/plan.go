package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/internal/declare"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/storage/declaration"
)

type planCommand struct {
	declarationFiles `embed:""`
	serverFlags      `embed:""`
	Prune            bool `help:"Also show what \"apply --prune\" would remove."`
}

// Help is shown by "valetkey plan --help".
func (planCommand) Help() string {
	return "Shows what \"valetkey apply\" would change, and changes nothing. For a running server it also shows who changed a record last, and whom the change affects. " +
		"A changed secret is reported without its value.\n\n" +
		"The exit code is 0 if nothing differs, 3 if something does, 1 if that could not be found out, and 2 if the command line or a file is wrong.\n\n" +
		"Examples:\n  valetkey plan --server https://login.example.com clients.yaml\n  valetkey plan --database sqlite:valetkey.db clients.yaml"
}

// Run shows the plan.
func (c *planCommand) Run(ctx context.Context, o *output) error {
	config, err := c.read()
	if err != nil {
		return err
	}
	connection, err := c.server(ctx, &c.serverFlags, &config)
	if err != nil {
		return err
	}
	var changes []api.DeclarationChange
	if connection == nil {
		changes, err = c.offline(ctx, &config)
	} else {
		var plan *api.DeclarationsResult
		if plan, err = planOnServer(ctx, o, connection, &config, c.Prune); plan != nil {
			changes = plan.Changes
		}
	}
	if err != nil {
		return err
	}
	if err := printPlan(o.out, c.JSON, changes, "Nothing differs."); err != nil {
		return err
	}
	if slices.ContainsFunc(changes, func(c api.DeclarationChange) bool { return c.Action != declaration.ActionNone }) {
		return errDifferent
	}
	return nil
}

func (c *planCommand) offline(ctx context.Context, config *configuration.Configuration) ([]api.DeclarationChange, error) {
	if missingFile(config.Database) != "" {
		config.Database = "sqlite::memory:" // there is no database yet, and plan creates none
	}
	store, err := database.Open(ctx, config, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	defer store.Close()
	planned, err := declare.Diff(ctx, store.Store, &config.Declarations, declare.Options{Source: config.Source, KeepUnnamed: true, PruneAll: c.Prune})
	if err != nil {
		return nil, err
	}
	changes := make([]api.DeclarationChange, len(planned.Changes))
	for i := range planned.Changes {
		p := &planned.Changes[i]
		changes[i] = api.DeclarationChange{Kind: p.Kind, Name: p.Name, Action: p.Action, Adopted: p.Adopted, NotNamed: p.NotNamed, Problem: p.Problem}
		for _, m := range p.Members {
			changes[i].Members = append(changes[i].Members, api.MemberChange(m))
		}
	}
	return changes, nil
}

// server returns the running server that the files are for, or nil if they are for a database.
func (f *declarationFiles) server(ctx context.Context, flags *serverFlags, config *configuration.Configuration) (*api.Connection, error) {
	if f.Config != "" || f.Database != "" {
		if flags.Server != "" {
			return nil, usageError{errors.New("--server is a running server, --config and --database are a database: pass one of them")}
		}
		return nil, nil
	}
	return flags.connect(ctx, config.Database == configuration.DefaultDatabase)
}

// planOnServer compares declarations with a running server.
func planOnServer(ctx context.Context, o *output, connection *api.Connection, config *configuration.Configuration, prune bool) (*api.DeclarationsResult, error) {
	body, err := declarationsOf(config, prune)
	if err != nil {
		return nil, err
	}
	plan, err := connection.ApplyDeclarations(ctx, body, "", api.Change{DryRun: true})
	if err != nil {
		return nil, err
	}
	for _, warning := range plan.Warnings {
		fmt.Fprintln(o.log, "warning:", printable(warning))
	}
	return plan, nil
}

func declarationsOf(config *configuration.Configuration, prune bool) (*api.NewDeclarations, error) {
	if prune && config.Source == "" {
		return nil, usageError{errors.New("--prune requires a source: pass --source, or files with the same source or issuer")}
	}
	encoded, err := config.Declarations.Encode()
	if err != nil {
		return nil, fmt.Errorf("encode the declarations: %w", err)
	}
	return &api.NewDeclarations{Source: config.Source, Declarations: encoded, Prune: prune}, nil
}

// onServer applies declarations on a running server: exactly what was compared before, or nothing.
func (c *applyCommand) onServer(ctx context.Context, o *output, connection *api.Connection, config *configuration.Configuration) error {
	plan, err := planOnServer(ctx, o, connection, config, c.Prune)
	if err != nil {
		return err
	}
	var removed []declaration.Name
	for i := range plan.Changes {
		if p := &plan.Changes[i]; p.Action == declaration.ActionRemove {
			removed = append(removed, declaration.Name{Kind: p.Kind, Name: p.Name})
		}
	}
	if err := c.confirmRemoval(o, removed); err != nil {
		return err
	}
	body, err := declarationsOf(config, c.Prune)
	if err != nil {
		return err
	}
	result, err := connection.ApplyDeclarations(ctx, body, plan.ETag, api.Change{})
	if err != nil {
		return err
	}
	if err := printPlan(o.out, c.JSON, result.Changes, "Nothing to change."); err != nil {
		return err
	}
	conflicts := 0
	for i := range result.Changes {
		if result.Changes[i].Action == declaration.ActionConflict {
			conflicts++
		}
	}
	if conflicts > 0 {
		return fmt.Errorf("not everything was applied: %d records could not be declared", conflicts)
	}
	return nil
}

// printPlan prints changes with who changed a record last, and whom the change affects.
func printPlan(w io.Writer, asJSON bool, changes []api.DeclarationChange, none string) error {
	if asJSON {
		if changes == nil {
			changes = []api.DeclarationChange{}
		}
		return printJSON(w, changes)
	}
	if len(changes) == 0 {
		fmt.Fprintln(w, none)
	}
	for i := range changes {
		p := &changes[i]
		change := declaration.Change{Kind: p.Kind, Name: printable(p.Name), Action: p.Action, Adopted: p.Adopted, Problem: p.Problem}
		for _, name := range p.NotNamed {
			change.NotNamed = append(change.NotNamed, printable(name))
		}
		for _, m := range p.Members {
			change.Members = append(change.Members, declaration.MemberChange{Name: printable(m.Name), From: printable(m.From), To: printable(m.To)})
		}
		if err := printChanges(w, false, []declaration.Change{change}, none); err != nil {
			return err
		}
		if l := p.LastChange; l != nil && p.Action != declaration.ActionNone {
			fmt.Fprintf(w, "    last changed %s by %s\n", l.Time.UTC().Format(time.RFC3339), printable(author(&l.Actor)))
		}
		if a := p.Affects; a != nil && p.Action != declaration.ActionNone {
			for _, line := range affected(a) {
				fmt.Fprintf(w, "    affects %s\n", line)
			}
		}
	}
	return nil
}

// author says in words who made a change.
func author(a *api.AuditActor) string {
	who := strings.TrimSpace(a.Kind + " " + a.ID)
	if a.Name != "" {
		who = a.Kind + " " + a.Name
	}
	switch {
	case a.Kind == "user" && a.ClientID == "":
		return who + " in the console or their account"
	case a.Kind == "user":
		return who + " with " + a.ClientID
	}
	return who
}

func affected(a *api.Affected) []string {
	var lines []string
	for _, use := range a.RedirectURIs {
		count := "1 user was"
		if use.Users > 1 {
			count = fmt.Sprintf("%d users were", use.Users)
		}
		if use.More {
			count = fmt.Sprintf("%d users or more were", use.Users)
		}
		lines = append(lines, fmt.Sprintf("the redirect URI %s, to which %s sent in the last 90 days, most recently %s",
			printable(use.RedirectURI), count, use.LastUse.UTC().Format(time.RFC3339)))
	}
	if a.Users > 0 {
		line := fmt.Sprintf("%d users who have allowed it access", a.Users)
		if a.More {
			line = fmt.Sprintf("%d users or more who have allowed it access", a.Users)
		}
		if a.LatestGrant != nil {
			line += ", most recently " + a.LatestGrant.UTC().Format(time.RFC3339)
		}
		lines = append(lines, line)
	}
	if a.Sessions > 0 || a.Clients > 0 {
		lines = append(lines, fmt.Sprintf("%d sessions, and access of %d applications", a.Sessions, a.Clients))
	}
	return lines
}

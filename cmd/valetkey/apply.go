package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/internal/declare"
	"github.com/valetkey/valetkey/storage/declaration"
)

type applyCommand struct {
	declarationFiles `embed:""`
	serverFlags      `embed:""`
	Prune            bool `help:"Permanently remove records that the same source declared before and the files no longer name."`
	Yes              bool `help:"Remove without confirmation."`
}

// Help is shown by "valetkey apply --help".
func (applyCommand) Help() string {
	return "Applying the same files again changes nothing. Members that the files do not name keep their values; null removes a member. " +
		"A running server sees the changes within a second. If a record conflicts with what is stored, the others are applied and the exit code is 1.\n\n" +
		"With --prune, users, clients, scopes and resources that the same source declared before and that the files no longer name are permanently removed, " +
		"with everything that belongs to them. They are listed first.\n\n" +
		"On a running server (--server, VALETKEY_SERVER, or \"valetkey login\"), this needs the role administrator.\n\n" +
		"Examples:\n  valetkey apply --database sqlite:valetkey.db clients.yaml\n  valetkey apply --prune valetkey.yaml\n  valetkey apply --server https://login.example.com clients.yaml"
}

// Run applies the files.
func (c *applyCommand) Run(ctx context.Context, o *output) error {
	config, err := c.read()
	if err != nil {
		return err
	}
	if c.Prune && config.Source == "" {
		return usageError{errors.New("--prune requires a source: pass --source, or files with the same source or issuer")}
	}
	connection, err := c.server(ctx, &c.serverFlags, &config)
	if err != nil {
		return err
	}
	if connection != nil {
		return c.onServer(ctx, o, connection, &config)
	}
	store, err := database.Open(ctx, &config, newLogger(o.log, configuration.Log{Level: "warn"}, new(slog.LevelVar)))
	if err != nil {
		return err
	}
	defer store.Close()
	for _, warning := range config.Declarations.Warnings() {
		fmt.Fprintln(o.log, "warning:", warning)
	}
	options := declare.Options{Source: config.Source, KeepUnnamed: true}
	if len(c.Files) == 1 {
		options.FormerSource = formerSource(c.Files[0])
	}
	if c.Prune {
		if options.Prune, err = c.confirm(ctx, o, &config, store); err != nil {
			return err
		}
	}
	declared, err := declare.Apply(ctx, store.Store, &config.Declarations, options)
	var conflict *declaration.ConflictError
	if err != nil && !errors.As(err, &conflict) {
		return err
	}
	if err := leaveChanges(ctx, store, config.Source, declared.Changes); err != nil {
		return err
	}
	if err := printChanges(o.out, c.JSON, declared.Changes, "Nothing to change."); err != nil {
		return err
	}
	if conflict != nil {
		return fmt.Errorf("not everything was applied: %w", conflict)
	}
	return nil
}

// confirm lists what --prune removes and asks for confirmation. It returns what was listed, so
// that nothing else is removed.
func (c *applyCommand) confirm(ctx context.Context, o *output, config *configuration.Configuration, store *database.Database) ([]declaration.Name, error) {
	declared, err := declare.Diff(ctx, store.Store, &config.Declarations, declare.Options{Source: config.Source, PruneAll: true})
	if err != nil {
		return nil, err
	}
	names := []declaration.Name{}
	for _, change := range declared.Changes {
		if change.Action == declaration.ActionRemove {
			names = append(names, declaration.Name{Kind: change.Kind, Name: change.Name})
		}
	}
	return names, c.confirmRemoval(o, names)
}

// confirmRemoval lists records that would be removed, and returns an error unless that is confirmed.
func (c *applyCommand) confirmRemoval(o *output, names []declaration.Name) error {
	if len(names) == 0 || c.Yes {
		return nil
	}
	fmt.Fprintln(o.log, "These records will be permanently removed, with everything that belongs to them:")
	for _, name := range names {
		fmt.Fprintf(o.log, "  %s %s\n", name.Kind, name.Name)
	}
	if info, err := os.Stdin.Stat(); c.JSON || err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return usageError{errors.New("nothing was changed: pass --yes to remove them")}
	}
	fmt.Fprint(o.log, "Remove them? Type yes: ")
	answer, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil || strings.TrimSpace(answer) != "yes" {
		return errors.New("nothing was changed")
	}
	return nil
}

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"github.com/valetkey/valetkey"
)

// errDifferent is the result of "diff --exit-code" when there are differences.
var errDifferent = errors.New("there are differences")

type declarationFiles struct {
	Config   string   `help:"Configuration file, for the database and the master key; its declarations are not used." type:"existingfile" placeholder:"FILE"`
	Database string   `help:"sqlite:PATH or postgres://… (default: that of --config, of VALETKEY_DATABASE, of the files, or sqlite:./valetkey.db)" placeholder:"URL"`
	JSON     bool     `help:"Print JSON."`
	Files    []string `arg:"" help:"YAML files with clients, users, scopes and resources." type:"existingfile"`
}

// read returns the declarations of all files as one, and the database that they are for.
func (f *declarationFiles) read() (valetkey.Configuration, error) {
	all, err := configurationOf(f.Config)
	if err != nil {
		return all, err
	}
	all.Declarations = valetkey.Declarations{}
	for _, file := range f.Files {
		c, err := valetkey.ReadDeclarations(file)
		if err != nil {
			return all, usageError{err}
		}
		all.Database = cmp.Or(all.Database, c.Database)
		all.MasterKeyFile = cmp.Or(all.MasterKeyFile, c.MasterKeyFile)
		all.Clients = append(all.Clients, c.Clients...)
		all.Users = append(all.Users, c.Users...)
		all.Scopes = append(all.Scopes, c.Scopes...)
		all.Resources = append(all.Resources, c.Resources...)
	}
	all.Database = cmp.Or(f.Database, all.Database, valetkey.DefaultDatabase)
	if err := all.Validate(); err != nil {
		return all, usageError{err}
	}
	return all, nil
}

// configurationOf is that of a file, if one is named, and of the environment.
func configurationOf(path string) (valetkey.Configuration, error) {
	read := valetkey.EnvironmentConfiguration
	if path != "" {
		read = func() (valetkey.Configuration, error) { return valetkey.ReadConfiguration(path) }
	}
	c, err := read()
	if err != nil {
		return c, usageError{err}
	}
	return c, nil
}

// missingFile returns the file of a SQLite database that is not there; "" if it is.
func missingFile(database string) string {
	path, ok := strings.CutPrefix(database, "sqlite:")
	if !ok || path == ":memory:" {
		return ""
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return path
	}
	return ""
}

type applyCommand struct {
	declarationFiles `embed:""`
}

// Help is shown by "valetkey apply --help".
func (applyCommand) Help() string {
	return "Applying the same files again changes nothing. What the files do not name stays as it is. " +
		"A running server sees the changes within a second.\n\nExample: valetkey apply --database sqlite:valetkey.db clients.yaml"
}

// Run applies the files.
func (c *applyCommand) Run(ctx context.Context, o *output) error {
	configuration, err := c.read()
	if err != nil {
		return err
	}
	declarations := &configuration.Declarations
	store, err := valetkey.OpenStore(ctx, &configuration, newLogger(o.log, valetkey.Log{Level: "warn"}))
	if err != nil {
		return err
	}
	defer store.Close()
	for _, warning := range declarations.Warnings() {
		fmt.Fprintln(o.log, "warning:", warning)
	}
	changes, err := declarations.Apply(ctx, store, "")
	if err != nil {
		return err
	}
	return printChanges(o.out, c.JSON, changes, "Nothing to change.")
}

type diffCommand struct {
	declarationFiles `embed:""`
	ExitCode         bool `help:"End with exit code 3 if there are differences."`
}

// Help is shown by "valetkey diff --help".
func (diffCommand) Help() string {
	return "Secrets are shown as changed, never as they are.\n\nExample: valetkey diff --exit-code clients.yaml"
}

// Run shows the differences.
func (c *diffCommand) Run(ctx context.Context, o *output) error {
	configuration, err := c.read()
	if err != nil {
		return err
	}
	if missingFile(configuration.Database) != "" {
		configuration.Database = "sqlite::memory:" // nothing is there yet, and nothing is made
	}
	store, err := valetkey.OpenStore(ctx, &configuration, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer store.Close()
	changes, err := configuration.Diff(ctx, store)
	if err != nil {
		return err
	}
	if err := printChanges(o.out, c.JSON, changes, "No differences."); err != nil {
		return err
	}
	if c.ExitCode && len(changes) > 0 {
		return errDifferent
	}
	return nil
}

func printChanges(w io.Writer, asJSON bool, changes []valetkey.Change, none string) error {
	if asJSON {
		if changes == nil {
			changes = []valetkey.Change{}
		}
		return printJSON(w, changes)
	}
	if len(changes) == 0 {
		fmt.Fprintln(w, none)
		return nil
	}
	for _, c := range changes {
		sign := "~"
		if c.Action == "add" {
			sign = "+"
		}
		fmt.Fprintf(w, "%s %s %s\n", sign, c.Kind, c.Name)
		for _, m := range c.Members {
			switch {
			case m.From == "":
				fmt.Fprintf(w, "    %s: %s\n", m.Name, m.To)
			case m.To == "":
				fmt.Fprintf(w, "    %s: %s → (none)\n", m.Name, m.From)
			default:
				fmt.Fprintf(w, "    %s: %s → %s\n", m.Name, m.From, m.To)
			}
		}
	}
	return nil
}

func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

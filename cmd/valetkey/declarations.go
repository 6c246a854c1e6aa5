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
	"slices"
	"strings"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/internal/declare"
	"github.com/valetkey/valetkey/storage/declaration"
)

// errDifferent is the result of "diff --exit-code" if there are differences.
var errDifferent = errors.New("there are differences")

type declarationFiles struct {
	Config   string   `help:"Configuration file that names the database and the master key; its declarations are ignored." type:"existingfile" placeholder:"FILE"`
	Database string   `help:"sqlite:PATH or postgres://… (default: from --config, VALETKEY_DATABASE or the files, else sqlite:./valetkey.db)" placeholder:"URL"`
	Source   string   `help:"Name under which the database remembers what the files declare (default: source or issuer of the files, if it is the same in all)." placeholder:"NAME"`
	JSON     bool     `help:"Print JSON."`
	Files    []string `arg:"" help:"YAML files with clients, users, scopes and resources." type:"existingfile"`
}

// read returns the declarations of all files together, with their database and source.
func (f *declarationFiles) read() (configuration.Configuration, error) {
	all, err := configurationOf(f.Config)
	if err != nil {
		return all, err
	}
	all.Declarations = configuration.Declarations{}
	for i, file := range f.Files {
		c, err := configuration.ReadDeclarations(file)
		if err != nil {
			return all, usageError{err}
		}
		all.Database = cmp.Or(all.Database, c.Database)
		if all.MasterKeyFile == "" && len(all.MasterKeyCommand) == 0 {
			all.MasterKeyFile, all.MasterKeyCommand = c.MasterKeyFile, c.MasterKeyCommand
		}
		all.Add(c.Declarations)
		if source := cmp.Or(c.Source, c.Issuer); i == 0 {
			all.Source, all.Modified = source, c.Modified
		} else if source != all.Source {
			all.Source = ""
		}
	}
	all.Source = cmp.Or(f.Source, all.Source)
	all.Database = cmp.Or(f.Database, all.Database, configuration.DefaultDatabase)
	if err := all.Validate(); err != nil {
		return all, usageError{err}
	}
	return all, nil
}

// configurationOf returns the configuration of a file, if there is one, and of the environment.
func configurationOf(path string) (configuration.Configuration, error) {
	read := configuration.FromEnvironment
	if path != "" {
		read = func() (configuration.Configuration, error) { return configuration.Read(path) }
	}
	c, err := read()
	if err != nil {
		return c, usageError{err}
	}
	return c, nil
}

// missingFile returns the file of a SQLite database if it does not exist; otherwise "".
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

type diffCommand struct {
	declarationFiles `embed:""`
	ExitCode         bool `help:"Exit with code 3 if there are differences."`
}

// Help is shown by "valetkey diff --help".
func (diffCommand) Help() string {
	return "A changed secret is reported without its value. The diff includes records that a server with these files as its configuration would retire.\n\nExample: valetkey diff --exit-code clients.yaml"
}

// Run shows the differences.
func (c *diffCommand) Run(ctx context.Context, o *output) error {
	config, err := c.read()
	if err != nil {
		return err
	}
	if missingFile(config.Database) != "" {
		config.Database = "sqlite::memory:" // there is no database yet, and diff creates none
	}
	store, err := database.Open(ctx, &config, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer store.Close()
	declared, err := declare.Diff(ctx, store.Store, &config.Declarations, declare.Options{Source: config.Source})
	if err != nil {
		return err
	}
	if err := printChanges(o.out, c.JSON, declared.Changes, "No differences."); err != nil {
		return err
	}
	if c.ExitCode && slices.ContainsFunc(declared.Changes, func(c declaration.Change) bool { return c.Action != declaration.ActionNone }) {
		return errDifferent
	}
	return nil
}

// signs mark the lines about changes.
var signs = map[string]string{
	declaration.ActionAdd: "+", declaration.ActionChange: "~", declaration.ActionRetire: "-", declaration.ActionRestore: "+",
	declaration.ActionRemove: "x", declaration.ActionDisplace: "~", declaration.ActionConflict: "!", declaration.ActionNone: "=",
}

// remarks explain the less obvious changes.
var remarks = map[string]string{
	declaration.ActionRetire:  " (retired: no longer declared; declaring it again restores it)",
	declaration.ActionRestore: " (restored: declared again)",
	declaration.ActionRemove:  " (permanently removed)",

	declaration.ActionDisplace: " (signed up; loses the name or address that is declared for another user)",
}

func printChanges(w io.Writer, asJSON bool, changes []declaration.Change, none string) error {
	if asJSON {
		if changes == nil {
			changes = []declaration.Change{}
		}
		return printJSON(w, changes)
	}
	if len(changes) == 0 {
		fmt.Fprintln(w, none)
		return nil
	}
	for _, c := range changes {
		fmt.Fprintf(w, "%s %s %s%s\n", signs[c.Action], c.Kind, c.Name, remarks[c.Action])
		if c.Adopted {
			fmt.Fprintln(w, "    adopted: everything that was issued to it ends")
		}
		if c.Problem != "" {
			fmt.Fprintf(w, "    not changed: %s\n", strings.ReplaceAll(c.Problem, "\n", "\n    "))
		}
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
		if len(c.NotNamed) > 0 {
			fmt.Fprintf(w, "    no longer named, but kept (null removes): %s\n", strings.Join(c.NotNamed, ", "))
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

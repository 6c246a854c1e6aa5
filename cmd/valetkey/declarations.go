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

// errDifferent is the result of "diff --exit-code" when there are differences.
var errDifferent = errors.New("there are differences")

type declarationFiles struct {
	Config   string   `help:"Configuration file, for the database and the master key; its declarations are not used." type:"existingfile" placeholder:"FILE"`
	Database string   `help:"sqlite:PATH or postgres://… (default: that of --config, of VALETKEY_DATABASE, of the files, or sqlite:./valetkey.db)" placeholder:"URL"`
	Source   string   `help:"The name under which the database remembers what the files declare (default: source or issuer of the files, if all say the same)." placeholder:"NAME"`
	JSON     bool     `help:"Print JSON."`
	Files    []string `arg:"" help:"YAML files with clients, users, scopes and resources." type:"existingfile"`
}

// read returns the declarations of all files as one, with the database that they are for and
// their source.
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
		all.MasterKeyFile = cmp.Or(all.MasterKeyFile, c.MasterKeyFile)
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

// configurationOf is that of a file, if one is named, and of the environment.
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

type diffCommand struct {
	declarationFiles `embed:""`
	ExitCode         bool `help:"Exit with code 3 if there are differences."`
}

// Help is shown by "valetkey diff --help".
func (diffCommand) Help() string {
	return "Secrets are shown as changed; their values are never shown. What a server would retire that has these files as its configuration is shown too.\n\nExample: valetkey diff --exit-code clients.yaml"
}

// Run shows the differences.
func (c *diffCommand) Run(ctx context.Context, o *output) error {
	config, err := c.read()
	if err != nil {
		return err
	}
	if missingFile(config.Database) != "" {
		config.Database = "sqlite::memory:" // nothing is there yet, and nothing is made
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

// signs begin the lines about changes.
var signs = map[string]string{
	declaration.ActionAdd: "+", declaration.ActionChange: "~", declaration.ActionRetire: "-", declaration.ActionRestore: "+",
	declaration.ActionRemove: "x", declaration.ActionConflict: "!", declaration.ActionNone: "=",
}

// remarks end them, where the sign does not say enough.
var remarks = map[string]string{
	declaration.ActionRetire:  " (retired: the files do not name it any more; it comes back if they name it again)",
	declaration.ActionRestore: " (was retired and is named again)",
	declaration.ActionRemove:  " (removed for good)",
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
			fmt.Fprintln(w, "    adopted: everything that was issued to it has ended")
		}
		if c.Problem != "" {
			fmt.Fprintf(w, "    stays as it is: %s\n", strings.ReplaceAll(c.Problem, "\n", "\n    "))
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
			fmt.Fprintf(w, "    not named any more, but kept (null removes): %s\n", strings.Join(c.NotNamed, ", "))
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

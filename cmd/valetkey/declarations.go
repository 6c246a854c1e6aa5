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

	"github.com/valetkey/valetkey"
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
func (f *declarationFiles) read() (valetkey.Configuration, error) {
	all, err := configurationOf(f.Config)
	if err != nil {
		return all, err
	}
	all.Declarations = valetkey.Declarations{}
	for i, file := range f.Files {
		c, err := valetkey.ReadDeclarations(file)
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
	declared, err := configuration.DiffWith(ctx, store, valetkey.DeclareOptions{Source: configuration.Source})
	if err != nil {
		return err
	}
	if err := printChanges(o.out, c.JSON, declared.Changes, "No differences."); err != nil {
		return err
	}
	if c.ExitCode && slices.ContainsFunc(declared.Changes, func(c valetkey.Change) bool { return c.Action != valetkey.ActionNone }) {
		return errDifferent
	}
	return nil
}

// signs begin the lines about changes.
var signs = map[string]string{
	valetkey.ActionAdd: "+", valetkey.ActionChange: "~", valetkey.ActionRetire: "-", valetkey.ActionRestore: "+",
	valetkey.ActionRemove: "x", valetkey.ActionConflict: "!", valetkey.ActionNone: "=",
}

// remarks end them, where the sign does not say enough.
var remarks = map[string]string{
	valetkey.ActionRetire:  " (retired: the files do not name it any more; it comes back if they name it again)",
	valetkey.ActionRestore: " (was retired and is named again)",
	valetkey.ActionRemove:  " (removed for good)",
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

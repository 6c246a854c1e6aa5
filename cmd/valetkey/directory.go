package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/identity/directory"
)

type directoryCommand struct {
	Test directoryTestCommand `cmd:"" help:"Show step by step how a user signs in at a directory."`
}

type directoryTestCommand struct {
	ID       string `arg:"" help:"The id of the directory in the configuration."`
	User     string `arg:"" optional:"" help:"What the user types, such as ada, ada@example.com or EXAMPLE\\ada."`
	Password bool   `help:"Ask for the user's password, and check it. A wrong one counts in the directory."`
	Config   string `required:"" help:"Configuration file." type:"existingfile" placeholder:"FILE"`
	JSON     bool   `help:"Print JSON."`
}

// Help is shown by "valetkey directory test --help".
func (directoryTestCommand) Help() string {
	return "Connects to a directory, binds, looks the user and the groups up, and applies the rule. It stores nothing, and prints no secrets. " +
		"If standard input is not a terminal, its first line is the password.\n\n" +
		"Example: valetkey directory test corp ada --config valetkey.yaml"
}

// directoryResult is the output of "directory test --json".
type directoryResult struct {
	Steps []directory.Step `json:"steps"`
	Error string           `json:"error,omitempty"`
}

// Run tests a directory.
func (c *directoryTestCommand) Run(ctx context.Context, o *output) error {
	config, err := configuration.Read(c.Config)
	if err != nil {
		return usageError{err}
	}
	directories, err := directory.New(config.Directories, directory.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return usageError{err}
	}
	defer directories.Close()
	at := directories.Directory(c.ID)
	if at == nil {
		return usageError{fmt.Errorf("the configuration has no active directory with the id %q", c.ID)}
	}
	password := ""
	if c.Password {
		if c.User == "" {
			return usageError{errors.New("--password needs a user")}
		}
		if password, err = readPassword(o); err != nil {
			return err
		}
	}
	trace, err := at.Test(ctx, c.User, password)
	if c.JSON {
		result := directoryResult{Steps: trace.Steps}
		if err != nil {
			result.Error = err.Error()
		}
		return errors.Join(printJSON(o.out, result), err)
	}
	for _, step := range trace.Steps {
		fmt.Fprintf(o.out, "✓ %-8s %s\n", step.Name, printable(step.Detail))
	}
	return err
}

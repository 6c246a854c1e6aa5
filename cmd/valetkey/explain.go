package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

type explainCommand struct {
	Ref    string `arg:"" help:"The reference (for example, 7K3M-2QXA)."`
	target `embed:""`
}

// Help is shown by "valetkey explain --help".
func (explainCommand) Help() string {
	return "Error pages and error descriptions contain the reference. The latest 10,000 refusals are kept.\n\n" +
		"Example: valetkey explain 7K3M-2QXA --config valetkey.yaml"
}

// Run prints the checks of a refused request.
func (c *explainCommand) Run(ctx context.Context, o *output) error {
	ref := strings.ToUpper(strings.Trim(c.Ref, " ()"))
	trace, err := c.trace(ctx, ref)
	if errors.Is(err, storage.ErrNotFound) || api.StatusOf(err) == http.StatusNotFound {
		return fmt.Errorf("there is no refusal with the reference %s: only the latest 10,000 are kept", ref)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(o.out, trace)
	}
	printTrace(o.out, trace)
	return nil
}

func (c *explainCommand) trace(ctx context.Context, ref string) (*record.Trace, error) {
	connection, err := c.connection(ctx)
	if err != nil {
		return nil, err
	}
	if connection != nil {
		explanation, err := connection.Explanation(ctx, ref)
		if err != nil {
			return nil, err
		}
		return &explanation.Trace, nil
	}
	store, _, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	return store.Trace(ctx, ref)
}

func printTrace(w io.Writer, t *record.Trace) {
	fmt.Fprintf(w, "%s  %s", printable(t.Ref), t.Time.Format(time.RFC3339))
	if t.ClientID != "" {
		fmt.Fprintf(w, "  client %s", printable(t.ClientID))
	}
	if t.Accepted() {
		fmt.Fprintf(w, "\n%s accepted the request\n\n", printable(t.Endpoint))
	} else {
		fmt.Fprintf(w, "\n%s responded %s: %s\n\n", printable(t.Endpoint), printable(t.Error), printable(t.Description))
	}
	for _, check := range t.Checks {
		mark := "✓"
		if !check.OK {
			mark = "✗"
		}
		fmt.Fprintf(w, "  %s %s\n    %s\n", mark, printable(check.Rule), printable(check.Section))
		if check.Detail != "" {
			fmt.Fprintf(w, "    found: %s\n", printable(check.Detail))
		}
		if check.Fix != "" {
			fmt.Fprintf(w, "    fix:   %s\n", printable(check.Fix))
		}
	}
}

// printable replaces control characters, so that untrusted text cannot control the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return '·'
		}
		return r
	}, s)
}

type versionCommand struct {
	JSON bool `help:"Print JSON."`
}

// Help is shown by "valetkey version --help".
func (versionCommand) Help() string { return "Example: valetkey version --json" }

// Run prints the version.
func (c *versionCommand) Run(o *output) error {
	if c.JSON {
		return printJSON(o.out, map[string]string{"version": valetkey.Version})
	}
	fmt.Fprintln(o.out, "valetkey", valetkey.Version)
	return nil
}

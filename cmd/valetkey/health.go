package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/valetkey/valetkey/manage/api"
)

type healthCommand struct {
	Checks      bool `help:"Also make the checks of \"valetkey doctor\", on the server."`
	JSON        bool `help:"Print JSON."`
	serverFlags `embed:""`
}

// Help is shown by "valetkey health --help".
func (healthCommand) Help() string {
	return "Asks a running server how it is: whether it is ready, what waits to be sent, and what happened in the last hour.\n\n" +
		"The exit code is 0 if the server is ready and the checks found no error and no warning, and otherwise 1.\n\n" +
		"Example: valetkey health --checks --server https://login.example.com"
}

// checksTime is how long the checks of a server may take.
const checksTime = 90 * time.Second

// Run prints the health of a server.
func (c *healthCommand) Run(ctx context.Context, o *output) error {
	connection, err := c.onlyServer(ctx)
	if err != nil {
		return err
	}
	health, err := connection.Health(ctx)
	if err != nil {
		return err
	}
	var checks *api.HealthChecks
	if c.Checks {
		if checks, err = awaitChecks(ctx, connection); err != nil {
			return err
		}
	}
	if c.JSON {
		err = printJSON(o.out, struct {
			*api.Health
			Checks *api.HealthChecks `json:"checks,omitempty"`
		}{health, checks})
	} else {
		printHealth(o, health, checks)
	}
	switch {
	case err != nil:
		return err
	case !health.Ready:
		return errors.New("the server is not ready")
	case checks != nil && !checks.Healthy():
		return errFindings
	}
	return nil
}

// awaitChecks returns the result of the checks when they have ended.
func awaitChecks(ctx context.Context, connection *api.Connection) (*api.HealthChecks, error) {
	ctx, cancel := context.WithTimeout(ctx, checksTime)
	defer cancel()
	for {
		checks, err := connection.HealthChecks(ctx) // waits for some seconds while they run
		if err != nil {
			return nil, fmt.Errorf("make the checks: %w", err)
		}
		if !checks.Running {
			return checks, nil
		}
	}
}

func printHealth(o *output, h *api.Health, checks *api.HealthChecks) {
	state := "ready"
	if !h.Ready {
		state = "not ready: " + h.NotReady
	}
	fmt.Fprintf(o.out, "%s, version %s, since %s: %s\n", printable(h.Node), printable(h.Version), h.StartedAt.Format(time.RFC3339), printable(state))
	for _, line := range h.Details {
		fmt.Fprintln(o.out, " ", printable(line))
	}
	for _, box := range h.Outboxes {
		fmt.Fprintf(o.out, "outbox %s: %d waiting, %d failed\n", box.Outbox, box.Waiting, box.Failed)
	}
	fmt.Fprintf(o.out, "refused requests in the last hour: %d\n", h.Refused)
	for _, e := range h.Activity {
		fmt.Fprintf(o.out, "%6d  %s\n", e.Count, e.Meaning)
	}
	if checks == nil {
		return
	}
	for _, f := range checks.Findings {
		fmt.Fprintf(o.out, "%-8s %s: %s\n  seen:  %s\n  fix:   %s\n", f.Severity, f.Name, f.Title, printable(f.Seen), f.Fix)
	}
	fmt.Fprintf(o.out, "%d checks passed, %d skipped\n", len(checks.Passed), len(checks.Skipped))
}

package manage

import (
	"context"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/internal/doctor"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/sqldb"
)

// State is what a node says about itself.
type State struct {
	// NotReady is why requests should not be sent to this node; nil if they should.
	NotReady error
	// Details are the lines of /readyz after the first.
	Details []string
	Node    string // the name of the machine
	Started time.Time
}

// Checks are the results of "valetkey doctor" for this server.
type Checks struct {
	// Report is the latest result; nil if there is none yet, and At is its time.
	Report *doctor.Report
	At     time.Time
	// Running says that the checks run at the moment.
	Running bool
}

// activityFor is the time that Health.Activity covers.
const activityFor = time.Hour

func (a *API) registerHealth() {
	register(a, api.HealthRead, operation{id: "get-health", method: http.MethodGet, path: "/health", summary: "Get whether this node is ready, what waits to be sent, and what happened in the last hour"}, a.getHealth)
	register(a, api.HealthRead, operation{id: "get-health-checks", method: http.MethodGet, path: "/health/checks", summary: "Get what is wrong with the server and what surrounds it, as valetkey doctor finds it; the checks run if the latest result is older than 30 seconds"}, a.getHealthChecks)
}

type healthOutput struct{ Body api.Health }

func (a *API) getHealth(ctx context.Context, _ *principal, _ *struct{}) (*healthOutput, error) {
	state := a.config.State(ctx)
	health := api.Health{Ready: state.NotReady == nil, Details: notNil(state.Details), Version: a.config.Version, Node: state.Node, StartedAt: state.Started.UTC(),
		Outboxes: []api.OutboxHealth{}, Activity: []api.EventCount{}}
	if state.NotReady != nil {
		health.NotReady = state.NotReady.Error()
	}
	for _, name := range []string{storage.OutboxUsers, storage.OutboxClients, storage.OutboxEvents} {
		box, err := a.config.Store.OutboxState(ctx, name)
		if err != nil {
			return nil, err
		}
		health.Outboxes = append(health.Outboxes, api.OutboxHealth{Outbox: name, Waiting: box.Waiting, Failed: box.Failed, OldestAt: optionalTime(box.Oldest)})
	}
	since := time.Now().Add(-activityFor)
	records, err := a.config.Store.AuditRecords(ctx, audit.Filter{From: since, Limit: audit.MaxLimit})
	if err != nil {
		return nil, err
	}
	counts := map[string]int{}
	for i := range records {
		counts[records[i].Event]++
	}
	for _, e := range audit.Events {
		if n := counts[e.Name]; n > 0 && e.Name != "request.refused" { // Refused counts them all
			health.Activity = append(health.Activity, api.EventCount{Event: e.Name, Meaning: e.Meaning, Count: n})
		}
	}
	refused, err := a.config.Store.Traces(ctx, sqldb.TraceFilter{Outcome: sqldb.TraceRefused, Since: since}, 0, audit.MaxLimit)
	if err != nil {
		return nil, err
	}
	health.Refused = len(refused)
	health.More = len(records) == audit.MaxLimit || len(refused) == audit.MaxLimit
	return &healthOutput{health}, nil
}

type healthChecksOutput struct{ Body api.HealthChecks }

func (a *API) getHealthChecks(ctx context.Context, _ *principal, _ *struct{}) (*healthChecksOutput, error) {
	checks := a.config.Checks(ctx)
	out := api.HealthChecks{Running: checks.Running, CheckedAt: optionalTime(checks.At), Findings: []api.Finding{}, Passed: []string{}, Skipped: []api.SkippedCheck{}}
	if r := checks.Report; r != nil {
		out.Passed = r.Passed
		for _, f := range r.Findings {
			out.Findings = append(out.Findings, api.Finding{Name: f.Name, Severity: string(f.Severity), Title: f.Title, Seen: f.Seen, Fix: f.Fix})
		}
		for _, s := range r.Skipped {
			out.Skipped = append(out.Skipped, api.SkippedCheck{Check: s.Check, Why: s.Why})
		}
	}
	return &healthChecksOutput{out}, nil
}

package api

import (
	"context"
	"time"
)

// Health says how the node that was asked is doing, and what happened on the server.
type Health struct {
	Ready     bool           `json:"ready"`
	NotReady  string         `json:"not_ready,omitempty" doc:"Why the node is not ready"`
	Details   []string       `json:"details" doc:"What is wrong although the node is ready"`
	Version   string         `json:"version"`
	Node      string         `json:"node" doc:"Name of the machine that has answered"`
	StartedAt time.Time      `json:"started_at" doc:"When this node started"`
	Outboxes  []OutboxHealth `json:"outboxes"`
	Activity  []EventCount   `json:"activity" doc:"Events of the last hour"`
	Refused   int            `json:"refused" doc:"Requests that were refused in the last hour"`
	More      bool           `json:"more,omitempty" doc:"There was more than is counted: the latest 1000 of each"`
}

// OutboxHealth counts the messages of an outbox.
type OutboxHealth struct {
	Outbox   string     `json:"outbox" enum:"clients,users,events"`
	Waiting  int        `json:"waiting"`
	Failed   int        `json:"failed" doc:"Messages that were given up in the last week"`
	OldestAt *time.Time `json:"oldest_at,omitempty" doc:"Since when the oldest waiting message waits"`
}

// EventCount says how often an event of the audit log happened.
type EventCount struct {
	Event   string `json:"event"`
	Meaning string `json:"meaning"`
	Count   int    `json:"count"`
}

// HealthChecks are the results of the checks of "valetkey doctor", made by the server itself.
type HealthChecks struct {
	Running   bool           `json:"running" doc:"The checks run at the moment; the result is an earlier one"`
	CheckedAt *time.Time     `json:"checked_at,omitempty" doc:"When the checks ended; nothing is known before the first"`
	Findings  []Finding      `json:"findings" doc:"What is wrong, the worst first"`
	Passed    []string       `json:"passed"`
	Skipped   []SkippedCheck `json:"skipped"`
}

// Healthy reports whether there is a result without an error or a warning.
func (c *HealthChecks) Healthy() bool {
	for _, f := range c.Findings {
		if f.Severity != "info" {
			return false
		}
	}
	return c.CheckedAt != nil
}

// Finding is something that is wrong.
type Finding struct {
	Name     string `json:"name"`
	Severity string `json:"severity" enum:"error,warning,info"`
	Title    string `json:"title"`
	Seen     string `json:"seen" doc:"What was observed"`
	Fix      string `json:"fix" doc:"What to do"`
}

// SkippedCheck is a check that was not possible.
type SkippedCheck struct {
	Check string `json:"check"`
	Why   string `json:"why"`
}

// Health returns how the server is doing.
func (c *Connection) Health(ctx context.Context) (*Health, error) {
	health, _, err := get[Health](ctx, c, "/health", nil)
	return health, err
}

// HealthChecks returns what is wrong with the server and what surrounds it. The checks take up to a
// minute; if they are still running, HealthChecks.Running is set after a few seconds.
func (c *Connection) HealthChecks(ctx context.Context) (*HealthChecks, error) {
	checks, _, err := get[HealthChecks](ctx, c, "/health/checks", nil)
	return checks, err
}

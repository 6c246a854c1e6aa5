package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/audit"
)

type auditCommand struct {
	List       auditListCommand       `cmd:"" default:"withargs" help:"List records, the newest first."`
	Export     auditExportCommand     `cmd:"" help:"Print records for other programs, the oldest first."`
	Verify     auditVerifyCommand     `cmd:"" help:"Find records that were removed, changed or added in the database."`
	Checkpoint auditCheckpointCommand `cmd:"" help:"Print a signed checkpoint of the log, to keep elsewhere."`
	Replay     auditReplayCommand     `cmd:"" help:"Send records to a webhook again."`
	Events     auditEventsCommand     `cmd:"" help:"List the events that are recorded."`
}

// auditFilter are the flags that select records.
type auditFilter struct {
	Actor   string `help:"Only what this user, client or operator did, by ID." placeholder:"ID"`
	Subject string `help:"Only what is about this user, by sub." placeholder:"SUB"`
	Client  string `help:"Only what is about this client." placeholder:"CLIENT_ID"`
	Event   string `help:"Only this event, or events that begin like this (user.*)." placeholder:"EVENT"`
	Since   string `help:"Only from this time on: 2026-11-27, 2026-11-27T08:00:00Z, or an age such as 24h." placeholder:"TIME"`
	Until   string `help:"Only before this time." placeholder:"TIME"`
}

func (f *auditFilter) filter(now time.Time) (audit.Filter, error) {
	filter := audit.Filter{Actor: f.Actor, Subject: f.Subject, ClientID: f.Client, Event: f.Event}
	var err error
	if filter.From, err = timeFlag("--since", f.Since, now); err != nil {
		return filter, err
	}
	filter.Until, err = timeFlag("--until", f.Until, now)
	return filter, err
}

func timeFlag(name, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if age, err := time.ParseDuration(text); err == nil {
		return now.Add(-age.Abs()), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	return time.Time{}, usageError{fmt.Errorf("%s: %q is neither a date, a time like 2026-11-27T08:00:00Z, nor an age like 24h", name, text)}
}

type auditListCommand struct {
	auditFilter `embed:""`
	Limit       int `help:"How many records." default:"50"`
	target      `embed:""`
}

// Run prints records.
func (c *auditListCommand) Run(ctx context.Context, o *output) error {
	filter, err := c.filter(time.Now())
	if err != nil {
		return err
	}
	connection, err := c.connection(ctx)
	if err != nil {
		return err
	}
	if connection != nil {
		return c.listOfServer(ctx, o, connection, &filter)
	}
	store, _, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	filter.Limit = min(max(c.Limit, 1), audit.MaxLimit)
	records, err := store.AuditRecords(ctx, filter)
	if err != nil {
		return err
	}
	for i := range records {
		if c.JSON {
			fmt.Fprintf(o.out, "%s\n", records[i].JSONLine())
		} else {
			printAudit(o.out, &records[i])
		}
	}
	if len(records) == 0 && !c.JSON {
		fmt.Fprintln(o.log, "There are no such records.")
	}
	return nil
}

// printAudit prints one record. It contains text of users and clients.
func printAudit(w io.Writer, r *audit.Record) {
	who := strings.TrimSpace(string(r.Actor.Kind) + " " + r.Actor.ID)
	if r.Actor.Name != "" && r.Actor.Kind != audit.KindOperator {
		who += " (" + r.Actor.Name + ")"
	}
	fmt.Fprintf(w, "%s  %-24s %s", r.Time.Format(time.RFC3339), r.Event, printable(who))
	for _, member := range [][2]string{{"from", r.Actor.Address}, {"on behalf of", r.Actor.OnBehalfOf}, {"through", r.Actor.ClientID}, {r.Object.Kind, strings.TrimSpace(r.Object.ID + " " + r.Object.Name)}, {"reference", r.Actor.Reference}} {
		if member[1] != "" {
			fmt.Fprintf(w, ", %s %s", member[0], printable(member[1]))
		}
	}
	fmt.Fprintln(w)
	members := maps.Clone(r.Before)
	if members == nil {
		members = map[string]json.RawMessage{}
	}
	maps.Copy(members, r.After)
	for _, name := range slices.Sorted(maps.Keys(members)) {
		before, after := string(r.Before[name]), string(r.After[name])
		if before == "" {
			before = "–"
		}
		if after == "" {
			after = "–"
		}
		fmt.Fprintf(w, "    %s: %s → %s\n", name, printable(before), printable(after))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Details)) {
		fmt.Fprintf(w, "    %s: %s\n", name, printable(r.Details[name]))
	}
}

type auditExportCommand struct {
	auditFilter `embed:""`
	Format      string `help:"jsonl: the records as they are hashed; ocsf: events of the Open Cybersecurity Schema Framework; syslog: messages of RFC 5424." enum:"jsonl,ocsf,syslog" default:"jsonl"`
	target      `embed:""`
}

// Help is shown by "valetkey audit export --help".
func (auditExportCommand) Help() string {
	return "Records are fetched in pages and printed at once, so the log can be of any size.\n\n" +
		"Example: valetkey audit export --format ocsf --since 24h"
}

// Run prints all records that the filter selects.
func (c *auditExportCommand) Run(ctx context.Context, o *output) error {
	filter, err := c.filter(time.Now())
	if err != nil {
		return err
	}
	connection, err := c.connection(ctx)
	if err != nil {
		return err
	}
	if connection != nil {
		return c.exportOfServer(ctx, o, connection, &filter)
	}
	store, config, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	if _, err := store.SealAudit(ctx); err != nil {
		return err
	}
	out := bufio.NewWriter(o.out)
	filter.Ascending, filter.Limit = true, audit.MaxLimit
	for {
		records, err := store.AuditRecords(ctx, filter)
		if err != nil {
			return err
		}
		if len(records) == 0 {
			return out.Flush()
		}
		for i := range records {
			if err := c.write(out, &records[i], config.Issuer); err != nil {
				return err
			}
		}
		filter.After = records[len(records)-1].ID
	}
}

// write writes a record in the format that was chosen.
func (c *auditExportCommand) write(out io.Writer, r *audit.Record, issuer string) error {
	line := r.JSONLine()
	switch c.Format {
	case "ocsf":
		var err error
		if line, err = r.OCSF(issuer); err != nil {
			return err
		}
	case "syslog":
		line = r.SyslogMessage()
	}
	_, err := fmt.Fprintf(out, "%s\n", line)
	return err
}

type auditVerifyCommand struct {
	Checkpoint []string `help:"File with checkpoints that were kept elsewhere." type:"existingfile" placeholder:"FILE"`
	Key        []string `help:"Thumbprint of a key that may have signed checkpoints. For a database: another key than its own, such as that before it was replaced. For a server: every key, instead of the one that the server names." placeholder:"THUMBPRINT"`
	target     `embed:""`
}

// Help is shown by "valetkey audit verify --help".
func (auditVerifyCommand) Help() string {
	return "Reads all records, and compares their hashes with the chain and with checkpoints. Without --checkpoint it cannot find what was done by someone who computed all hashes anew.\n\n" +
		"For a running server, all records are fetched and their hashes computed here, so the server need not be trusted, except for what no checkpoint covers.\n\n" +
		"Exit codes: 0 the log is as it was written, 3 it is not, 1 that could not be found out, 2 the command line is wrong.\n\n" +
		"Examples:\n  valetkey audit verify --config valetkey.yaml --checkpoint /mnt/worm/checkpoints\n  valetkey audit verify --server https://login.example.com --checkpoint checkpoints"
}

// Run verifies the chain.
func (c *auditVerifyCommand) Run(ctx context.Context, o *output) error {
	connection, err := c.connection(ctx)
	if err != nil {
		return err
	}
	if connection != nil {
		return c.verifyServer(ctx, o, connection)
	}
	store, _, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	if _, err := store.SealAudit(ctx); err != nil {
		return err
	}
	keys := append([]string{store.AuditKey()}, c.Key...)
	checkpoints, err := c.checkpoints(keys)
	if err != nil {
		return err
	}
	report, err := audit.Verify(ctx, store, checkpoints, keys...)
	if err != nil {
		return err
	}
	return c.report(o, &report, len(checkpoints))
}

// checkpoints reads the files with checkpoints, which must be signed with one of the keys.
func (c *auditVerifyCommand) checkpoints(keys []string) ([]*audit.Checkpoint, error) {
	var checkpoints []*audit.Checkpoint
	for _, name := range c.Checkpoint {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		found, err := audit.ReadCheckpoints(file, keys...)
		file.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("%s contains no checkpoint", name)
		}
		checkpoints = append(checkpoints, found...)
	}
	return checkpoints, nil
}

// report prints what was found. The error is errDifferent if something is wrong.
func (c *auditVerifyCommand) report(o *output, report *audit.Report, checkpoints int) error {
	if c.JSON {
		if err := printJSON(o.out, report); err != nil {
			return err
		}
	} else {
		printAuditReport(o, report, checkpoints)
	}
	if len(report.Problems) > 0 {
		fmt.Fprintln(o.log, "valetkey: the audit log is not as it was written")
		return errDifferent
	}
	return nil
}

func printAuditReport(o *output, r *audit.Report, checkpoints int) {
	switch {
	case r.First == 0:
		fmt.Fprintln(o.out, "The log has no records.")
	default:
		fmt.Fprintf(o.out, "Records %d to %d were read.\n", r.First, r.Last)
	}
	if r.Removed > 0 {
		fmt.Fprintf(o.out, "Records up to %d were removed because of their age.\n", r.Removed)
	}
	for _, p := range r.Problems {
		fmt.Fprintln(o.out, "✗", printable(p.String()))
	}
	if len(r.Problems) > 0 {
		return
	}
	switch {
	case r.Checkpoints < checkpoints:
		fmt.Fprintf(o.out, "✓ The chain is complete. %d of %d checkpoints agree with it; the others are about removed records.\n", r.Checkpoints, checkpoints)
	case checkpoints > 0:
		fmt.Fprintf(o.out, "✓ The chain is complete. All %d checkpoints agree with it.\n", checkpoints)
	default:
		fmt.Fprintln(o.out, "✓ The chain is complete.")
		fmt.Fprintln(o.log, "Without a checkpoint that was kept elsewhere, this proves nothing against someone who can rewrite the whole database: pass one with --checkpoint.")
	}
}

type auditCheckpointCommand struct {
	target `embed:""`
}

// Help is shown by "valetkey audit checkpoint --help".
func (auditCheckpointCommand) Help() string {
	return "Example: valetkey audit checkpoint --server https://login.example.com >> checkpoints"
}

// Run prints a checkpoint.
func (c *auditCheckpointCommand) Run(ctx context.Context, o *output) error {
	checkpoint, err := c.checkpoint(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(o.out, map[string]any{
			"sequence": checkpoint.Sequence, "hash": fmt.Sprintf("%x", checkpoint.Hash), "time": checkpoint.Time, "key": checkpoint.Key, "checkpoint": checkpoint.Text,
		})
	}
	fmt.Fprintln(o.out, checkpoint.Text)
	fmt.Fprintf(o.log, "The chain ends at record %d. The key has the thumbprint %s.\n", checkpoint.Sequence, checkpoint.Key)
	return nil
}

func (c *auditCheckpointCommand) checkpoint(ctx context.Context) (*audit.Checkpoint, error) {
	connection, err := c.connection(ctx)
	if err != nil {
		return nil, err
	}
	if connection != nil {
		return c.ofServer(ctx, connection)
	}
	store, config, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	if _, err := store.SealAudit(ctx); err != nil {
		return nil, err
	}
	return store.AuditCheckpoint(ctx, config.Issuer, time.Now())
}

type auditReplayCommand struct {
	Webhook string `arg:"" help:"The name of the webhook in the configuration."`
	Since   string `help:"From this time on: 2026-11-27, 2026-11-27T08:00:00Z, or an age such as 24h." required:"" placeholder:"TIME"`
	Until   string `help:"Before this time." placeholder:"TIME"`
	Event   string `help:"Only this event, or events that begin like this (user.*)." placeholder:"EVENT"`
	target  `embed:""`
}

// Help is shown by "valetkey audit replay --help".
func (auditReplayCommand) Help() string {
	return "On a running server, this needs the permission outbox:write.\n\nExample: valetkey audit replay siem --since 24h"
}

// Run puts records into the outbox again.
func (c *auditReplayCommand) Run(ctx context.Context, o *output) error {
	now := time.Now()
	flags := auditFilter{Since: c.Since, Until: c.Until, Event: c.Event}
	filter, err := flags.filter(now)
	if err != nil {
		return err
	}
	if filter.Until.IsZero() {
		filter.Until = now // without the records that this leaves
	}
	n, err := c.replay(ctx, o, &filter)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(o.out, map[string]int{"records": n})
	}
	fmt.Fprintf(o.out, "The server will send %d records to %s.\n", n, printable(c.Webhook))
	return nil
}

func (c *auditReplayCommand) replay(ctx context.Context, o *output, filter *audit.Filter) (int, error) {
	connection, err := c.connection(ctx)
	if err != nil {
		return 0, err
	}
	if connection != nil {
		return c.replayOnServer(ctx, o, connection, filter)
	}
	store, config, err := c.open(ctx)
	if err != nil {
		return 0, err
	}
	defer store.Close()
	return valetkey.ReplayAudit(ctx, store, &config.Audit, c.Webhook, *filter)
}

type auditEventsCommand struct {
	JSON bool `help:"Print JSON."`
}

// Run lists the events.
func (c *auditEventsCommand) Run(o *output) error {
	if c.JSON {
		return printJSON(o.out, audit.Events)
	}
	for _, e := range audit.Events {
		fmt.Fprintf(o.out, "%-32s %s\n", e.Name, e.Meaning)
	}
	return nil
}

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
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
	auditFilter    `embed:""`
	Format         string `help:"jsonl: the records as they are hashed; ocsf: events of the Open Cybersecurity Schema Framework; syslog: messages of RFC 5424." enum:"jsonl,ocsf,syslog" default:"jsonl"`
	serverDatabase `embed:""`
}

// Run prints all records that the filter selects.
func (c *auditExportCommand) Run(ctx context.Context, o *output) error {
	filter, err := c.filter(time.Now())
	if err != nil {
		return err
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
			r := &records[i]
			line := r.JSONLine()
			switch c.Format {
			case "ocsf":
				if line, err = r.OCSF(config.Issuer); err != nil {
					return err
				}
			case "syslog":
				line = r.SyslogMessage()
			}
			if _, err := fmt.Fprintf(out, "%s\n", line); err != nil {
				return err
			}
		}
		filter.After = records[len(records)-1].ID
	}
}

type auditVerifyCommand struct {
	Checkpoint     []string `help:"File with checkpoints that were kept elsewhere." type:"existingfile" placeholder:"FILE"`
	Key            []string `help:"Thumbprint of another key that may have signed checkpoints, such as that of the database before it was replaced." placeholder:"THUMBPRINT"`
	serverDatabase `embed:""`
}

// Help is shown by "valetkey audit verify --help".
func (auditVerifyCommand) Help() string {
	return "Reads all records, and compares their hashes with the chain and with checkpoints. Without --checkpoint it cannot find what was done by someone who computed all hashes anew.\n\n" +
		"Exit code 1: something is wrong.\n\nExample: valetkey audit verify --config valetkey.yaml --checkpoint /mnt/worm/checkpoints"
}

// Run verifies the chain.
func (c *auditVerifyCommand) Run(ctx context.Context, o *output) error {
	store, _, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	if _, err := store.SealAudit(ctx); err != nil {
		return err
	}
	keys := append([]string{store.AuditKey()}, c.Key...)
	var checkpoints []*audit.Checkpoint
	for _, name := range c.Checkpoint {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		found, err := audit.ReadCheckpoints(file, keys...)
		file.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if len(found) == 0 {
			return fmt.Errorf("%s contains no checkpoint", name)
		}
		checkpoints = append(checkpoints, found...)
	}
	report, err := audit.Verify(ctx, store, checkpoints, keys...)
	if err != nil {
		return err
	}
	if c.JSON {
		if err := printJSON(o.out, report); err != nil {
			return err
		}
	} else {
		printAuditReport(o, &report, len(checkpoints))
	}
	if len(report.Problems) > 0 {
		return errors.New("the audit log is not as it was written")
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
	serverDatabase `embed:""`
}

// Run prints a checkpoint.
func (c *auditCheckpointCommand) Run(ctx context.Context, o *output) error {
	store, config, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	if _, err := store.SealAudit(ctx); err != nil {
		return err
	}
	checkpoint, err := store.AuditCheckpoint(ctx, config.Issuer, time.Now())
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

type auditReplayCommand struct {
	Webhook        string `arg:"" help:"The name of the webhook in the configuration."`
	Since          string `help:"From this time on: 2026-11-27, 2026-11-27T08:00:00Z, or an age such as 24h." required:"" placeholder:"TIME"`
	Until          string `help:"Before this time." placeholder:"TIME"`
	Event          string `help:"Only this event, or events that begin like this (user.*)." placeholder:"EVENT"`
	serverDatabase `embed:""`
}

// Run puts records into the outbox again.
func (c *auditReplayCommand) Run(ctx context.Context, o *output) error {
	flags := auditFilter{Since: c.Since, Until: c.Until, Event: c.Event}
	filter, err := flags.filter(time.Now())
	if err != nil {
		return err
	}
	store, config, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	n, err := valetkey.ReplayAudit(ctx, store, &config.Audit, c.Webhook, filter)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(o.out, map[string]int{"records": n})
	}
	fmt.Fprintf(o.out, "A server on this database will send %d records to %s.\n", n, printable(c.Webhook))
	return nil
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

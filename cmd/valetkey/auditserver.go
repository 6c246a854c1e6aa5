package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/manage/api"
)

// listOfServer prints records that a running server shows. With --json, each line is a record of the
// management API.
func (c *auditListCommand) listOfServer(ctx context.Context, o *output, connection *api.Connection, filter *audit.Filter) error {
	query := url.Values{}
	for name, value := range map[string]string{"actor": filter.Actor, "sub": filter.Subject, "client_id": filter.ClientID, "event": filter.Event} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for name, at := range map[string]time.Time{"since": filter.From, "until": filter.Until} {
		if !at.IsZero() {
			query.Set(name, at.UTC().Format(time.RFC3339Nano))
		}
	}
	left := min(max(c.Limit, 1), audit.MaxLimit)
	list := api.List{Limit: min(left, 200), Filter: query}
	page := func(p *api.AuditPage) ([]api.AuditRecord, string) { return p.Records, p.Next }
	found := false
	for record, err := range api.All(ctx, list, connection.Audit, page) {
		if err != nil {
			return err
		}
		found = true
		if c.JSON {
			line, err := json.Marshal(record)
			if err != nil {
				return fmt.Errorf("encode a record: %w", err)
			}
			fmt.Fprintf(o.out, "%s\n", line)
		} else {
			printAudit(o.out, auditRecord(&record))
		}
		if left--; left == 0 {
			return nil
		}
	}
	if !found && !c.JSON {
		fmt.Fprintln(o.log, "There are no such records.")
	}
	return nil
}

func auditRecord(r *api.AuditRecord) *audit.Record {
	return &audit.Record{
		ID: r.ID, Time: r.Time, Event: r.Event, Subject: r.Subject, ClientID: r.ClientID, Before: r.Before, After: r.After, Details: r.Details, Sequence: r.Sequence, Foreign: r.Foreign,
		Actor: audit.Actor{Kind: audit.Kind(r.Actor.Kind), ID: r.Actor.ID, Name: r.Actor.Name, OnBehalfOf: r.Actor.OnBehalfOf, ClientID: r.Actor.ClientID,
			Address: r.Actor.Address, Reference: r.Actor.Reference, TraceID: r.Actor.TraceID},
		Object: audit.Object{Kind: r.ObjectKind, ID: r.ObjectID, Name: r.ObjectName},
	}
}

package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/oauth/client"
)

// listOfServer prints records that a running server shows. With --json, each line is a record of the
// management API.
func (c *auditListCommand) listOfServer(ctx context.Context, o *output, connection *api.Connection, filter *audit.Filter) error {
	left := min(max(c.Limit, 1), audit.MaxLimit)
	list := api.List{Limit: min(left, 200), Filter: auditQuery(filter)}
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

// auditQuery returns the parameters of the management API for a filter.
func auditQuery(filter *audit.Filter) url.Values {
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
	return query
}

func auditRecord(r *api.AuditRecord) *audit.Record {
	return &audit.Record{
		ID: r.ID, Time: r.Time, Event: r.Event, Subject: r.Subject, ClientID: r.ClientID, Before: r.Before, After: r.After, Details: r.Details, Sequence: r.Sequence, Foreign: r.Foreign,
		Actor: audit.Actor{Kind: audit.Kind(r.Actor.Kind), ID: r.Actor.ID, Name: r.Actor.Name, OnBehalfOf: r.Actor.OnBehalfOf, ClientID: r.Actor.ClientID,
			Address: r.Actor.Address, Reference: r.Actor.Reference, TraceID: r.Actor.TraceID},
		Object: audit.Object{Kind: r.ObjectKind, ID: r.ObjectID, Name: r.ObjectName},
	}
}

// longCall makes many requests to a server for one command. The access token may expire meanwhile: then
// it connects again.
type longCall struct {
	connection *api.Connection
	connect    func(context.Context) (*api.Connection, error)
}

func (l *longCall) do(ctx context.Context, request func(*api.Connection) error) error {
	err := request(l.connection)
	if api.StatusOf(err) != http.StatusUnauthorized && !errors.Is(err, client.ErrSignInAgain) {
		return err
	}
	if l.connection, err = l.connect(ctx); err != nil {
		return err
	}
	return request(l.connection)
}

// decodeStored returns a record as its text describes it. What the server says about the text is not
// used.
func decodeStored(stored *api.StoredAuditRecord) (*audit.Record, error) {
	record, err := audit.Decode(stored.Text)
	if err != nil {
		return nil, fmt.Errorf("record %d: %w", stored.Sequence, err)
	}
	record.Sequence, record.Foreign = stored.Sequence, stored.Foreign
	if record.Hash, err = hex.DecodeString(stored.Hash); err != nil {
		return nil, fmt.Errorf("record %d: the hash is not hexadecimal", stored.Sequence)
	}
	return &record, nil
}

// auditPage is how many records one request asks for.
const auditPage = 1000

// exportOfServer prints the records that a running server has stored.
func (c *auditExportCommand) exportOfServer(ctx context.Context, o *output, connection *api.Connection, filter *audit.Filter) error {
	server := &longCall{connection, c.connection}
	list := api.List{Limit: auditPage, Filter: auditQuery(filter)}
	shown := &progress{}
	if !isTerminal(o.out) {
		shown = o.progress()
	}
	defer shown.end()
	out := bufio.NewWriter(o.out)
	for n := 0; ; {
		var page *api.StoredAuditPage
		err := server.do(ctx, func(connection *api.Connection) (err error) {
			page, err = connection.StoredAudit(ctx, list)
			return err
		})
		if err != nil {
			return err
		}
		for i := range page.Records {
			record, err := decodeStored(&page.Records[i])
			if err != nil {
				return err
			}
			if err := c.write(out, record, connection.Issuer); err != nil {
				return err
			}
		}
		if err := out.Flush(); err != nil {
			return err
		}
		n += len(page.Records)
		shown.show(time.Now(), fmt.Sprintf("%d records", n))
		if page.Next == "" {
			return nil
		}
		if page.Next == list.Cursor {
			return errors.New("the server returns the same page again and again")
		}
		list.Cursor = page.Next
	}
}

// fetchedChain is the chain of a running server. It implements audit.Sealed.
type fetchedChain struct {
	server *longCall
	shown  *progress
	// key is the thumbprint of the key that the server calls its own.
	key   string
	last  int64 // the end of the chain
	index []audit.Index
}

// AuditChain implements audit.Sealed.
func (f *fetchedChain) AuditChain(ctx context.Context) (audit.Chain, error) {
	var found *api.AuditChain
	err := f.server.do(ctx, func(connection *api.Connection) (err error) {
		found, err = connection.AuditChain(ctx)
		return err
	})
	if err != nil {
		return audit.Chain{}, err
	}
	f.key, f.last = found.Key, found.Sequence
	chain := audit.Chain{Sequence: found.Sequence, Removed: found.Removed, Anchor: found.Anchor}
	if chain.Hash, err = hex.DecodeString(found.Hash); err == nil {
		chain.RemovedHash, err = hex.DecodeString(found.RemovedHash)
	}
	if err != nil {
		return audit.Chain{}, fmt.Errorf("the end of the chain has a hash that is not hexadecimal: %w", err)
	}
	return chain, nil
}

// AuditSealed implements audit.Sealed.
func (f *fetchedChain) AuditSealed(ctx context.Context, after int64, limit int) ([]audit.Record, error) {
	var found []api.StoredAuditRecord
	err := f.server.do(ctx, func(connection *api.Connection) (err error) {
		found, err = connection.AuditChainRecords(ctx, after, min(limit, auditPage))
		return err
	})
	if err != nil {
		return nil, err
	}
	records := make([]audit.Record, 0, len(found))
	f.index = nil
	for i := range found {
		stored := &found[i]
		if stored.Sequence <= after { // else this would never end
			return nil, fmt.Errorf("the server returned record %d after record %d", stored.Sequence, after)
		}
		record, err := decodeStored(stored)
		if err != nil {
			return nil, err
		}
		records = append(records, *record)
		index := audit.Index{Sequence: stored.Sequence}
		if x := stored.Index; x != nil {
			index = audit.Index{Sequence: stored.Sequence, ID: x.ID, Event: x.Event, Actor: x.Actor, Subject: x.Subject, ClientID: x.ClientID}
		}
		f.index = append(f.index, index)
		after = stored.Sequence
	}
	f.shown.show(time.Now(), fmt.Sprintf("record %d of %d", after, f.last))
	return records, nil
}

// AuditIndex implements audit.Sealed, for the records that AuditSealed has returned last.
func (f *fetchedChain) AuditIndex(context.Context, int64, int) ([]audit.Index, error) {
	return f.index, nil
}

// verifyServer verifies the chain of a running server here: the server is not trusted. It says itself
// which key is its own, so keys that the operator names take its place.
func (c *auditVerifyCommand) verifyServer(ctx context.Context, o *output, connection *api.Connection) error {
	chain := &fetchedChain{server: &longCall{connection, c.connection}, shown: o.progress()}
	defer chain.shown.end()
	keys := c.Key
	if len(keys) == 0 {
		if _, err := chain.AuditChain(ctx); err != nil {
			return err
		}
		keys = []string{chain.key}
	}
	checkpoints, err := c.checkpoints(keys)
	if err != nil {
		return err
	}
	report, err := audit.Verify(ctx, chain, checkpoints, keys...)
	if err != nil {
		return err
	}
	chain.shown.end()
	return c.report(o, &report, len(checkpoints))
}

// ofServer gets a checkpoint from a running server, and verifies its signature.
func (c *auditCheckpointCommand) ofServer(ctx context.Context, connection *api.Connection) (*audit.Checkpoint, error) {
	found, err := connection.AuditCheckpoint(ctx)
	if err != nil {
		return nil, err
	}
	checkpoint, err := audit.ParseCheckpoint(found.Checkpoint)
	if err == nil && !checkpoint.RemovedBefore.IsZero() {
		err = errors.New("it is the statement about removed records")
	}
	if err != nil {
		return nil, fmt.Errorf("the server returned something else than a checkpoint: %w", err)
	}
	return checkpoint, nil
}

// replayOnServer sends records again, and returns how many. A failure in between is not repeated: the
// server may have sent some.
func (c *auditReplayCommand) replayOnServer(ctx context.Context, o *output, connection *api.Connection, filter *audit.Filter) (n int, err error) {
	server := &longCall{connection, c.connection}
	shown := o.progress()
	defer shown.end()
	replay := api.AuditReplay{Webhook: c.Webhook, Event: filter.Event, Since: filter.From, Until: filter.Until}
	for {
		change := newChange()
		var done *api.AuditReplayed
		err := server.do(ctx, func(connection *api.Connection) (err error) {
			done, err = connection.ReplayAudit(ctx, replay, change)
			return err
		})
		if err != nil {
			return n, err
		}
		n += done.Records
		shown.show(time.Now(), fmt.Sprintf("%d records", n))
		if done.Next == "" {
			return n, nil
		}
		replay.Cursor = done.Next
	}
}

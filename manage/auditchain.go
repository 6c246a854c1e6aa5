package manage

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/manage/api"
)

// What these operations return is meant for programs that do not trust the server: records as they were
// hashed, so that the hashes can be computed again.

func (a *API) registerAuditChain() {
	register(a, api.AuditRead, operation{id: "list-stored-audit-records", method: http.MethodGet, path: "/audit/records", summary: "List audit records as they are stored, the oldest first, to export them"}, a.listStoredAudit)
	register(a, api.AuditRead, operation{id: "get-audit-chain", method: http.MethodGet, path: "/audit/chain", summary: "Get the end of the chain of audit records, and what is left of its removed beginning"}, a.getAuditChain)
	register(a, api.AuditRead, operation{id: "list-audit-chain", method: http.MethodGet, path: "/audit/chain/records", summary: "List the records of the chain in its order, to verify them"}, a.listAuditChain)
	register(a, api.AuditRead, operation{id: "get-audit-checkpoint", method: http.MethodGet, path: "/audit/checkpoint", summary: "Get a signed checkpoint of the end of the chain, to keep elsewhere"}, a.getAuditCheckpoint)
	register(a, api.OutboxWrite, operation{id: "replay-audit-records", method: http.MethodPost, path: "/audit/replay", summary: "Send audit records to a webhook again, up to a thousand in one request"}, a.replayAudit)
}

// seal adds what was recorded in the last second to the chain, as every node does all the time, so that
// a caller sees what they have just done.
func (a *API) seal(ctx context.Context) error {
	_, err := a.config.Store.SealAudit(ctx)
	return err
}

// maxAuditText limits the records of a page, in bytes. A page has at least one.
const maxAuditText = 4 << 20

// storedPage returns the first records, as many as a page may have.
func storedPage(found []audit.Record) []api.StoredAuditRecord {
	records, size := []api.StoredAuditRecord{}, 0
	for i := range found {
		r := &found[i]
		if size += len(r.Text); size > maxAuditText && i > 0 {
			break
		}
		records = append(records, api.StoredAuditRecord{Sequence: r.Sequence, Hash: hex.EncodeToString(r.Hash), Foreign: r.Foreign, Text: r.Text})
	}
	return records
}

type storedAuditOutput struct{ Body api.StoredAuditPage }

type listStoredAuditInput struct {
	AuditFilter
	Cursor string `query:"cursor" maxLength:"1024" doc:"The member next of the previous page"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"200" doc:"The most records of a page; it has fewer if they are long"`
}

func (a *API) listStoredAudit(ctx context.Context, _ *principal, in *listStoredAuditInput) (*storedAuditOutput, error) {
	if err := a.seal(ctx); err != nil {
		return nil, err
	}
	filter := in.filter()
	var err error
	if filter.After, err = (&List{Cursor: in.Cursor}).after(); err != nil {
		return nil, err
	}
	filter.Ascending, filter.Limit = true, in.Limit
	found, err := a.config.Store.AuditRecords(ctx, filter)
	if err != nil {
		return nil, err
	}
	page := api.StoredAuditPage{Records: storedPage(found)}
	if n := len(page.Records); n == in.Limit || n < len(found) {
		page.Next = cursor(found[n-1].ID)
	}
	return &storedAuditOutput{page}, nil
}

type auditChainOutput struct{ Body api.AuditChain }

func (a *API) getAuditChain(ctx context.Context, _ *principal, _ *struct{}) (*auditChainOutput, error) {
	if err := a.seal(ctx); err != nil {
		return nil, err
	}
	chain, err := a.config.Store.AuditChain(ctx)
	if err != nil {
		return nil, err
	}
	return &auditChainOutput{api.AuditChain{
		Sequence: chain.Sequence, Hash: hex.EncodeToString(chain.Hash), Removed: chain.Removed, RemovedHash: hex.EncodeToString(chain.RemovedHash), Anchor: chain.Anchor,
		Key: a.config.Store.AuditKey(),
	}}, nil
}

type listAuditChainInput struct {
	After int64 `query:"after" minimum:"0" doc:"The sequence number of the last record that you have; 0 for the beginning"`
	Limit int   `query:"limit" minimum:"1" maximum:"1000" default:"200" doc:"The most records of the response; it has fewer if they are long, and none after the last record"`
}

func (a *API) listAuditChain(ctx context.Context, _ *principal, in *listAuditChainInput) (*storedAuditOutput, error) {
	found, err := a.config.Store.AuditSealed(ctx, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	index, err := a.config.Store.AuditIndex(ctx, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	page := api.StoredAuditPage{Records: storedPage(found)}
	for i := range page.Records {
		if i < len(index) && index[i].Sequence == page.Records[i].Sequence {
			x := &index[i]
			page.Records[i].Index = &api.AuditIndex{ID: x.ID, Event: x.Event, Actor: x.Actor, Subject: x.Subject, ClientID: x.ClientID}
		}
	}
	return &storedAuditOutput{page}, nil
}

type auditCheckpointOutput struct{ Body api.AuditCheckpoint }

func (a *API) getAuditCheckpoint(ctx context.Context, _ *principal, _ *struct{}) (*auditCheckpointOutput, error) {
	if err := a.seal(ctx); err != nil {
		return nil, err
	}
	c, err := a.config.Store.AuditCheckpoint(ctx, a.config.Issuer, time.Now())
	if err != nil {
		return nil, err
	}
	return &auditCheckpointOutput{api.AuditCheckpoint{Sequence: c.Sequence, Hash: hex.EncodeToString(c.Hash), Time: c.Time, Key: c.Key, Checkpoint: c.Text}}, nil
}

type replayAuditInput struct {
	Change
	Body api.AuditReplay
}

type replayAuditOutput struct{ Body api.AuditReplayed }

func (a *API) replayAudit(ctx context.Context, _ *principal, in *replayAuditInput) (*replayAuditOutput, error) {
	after, err := (&List{Cursor: in.Body.Cursor}).after()
	if err != nil {
		return nil, err
	}
	webhooks := a.config.Configuration.Audit.Webhooks
	if !slices.ContainsFunc(webhooks, func(w configuration.AuditWebhook) bool { return w.Name == in.Body.Webhook }) {
		return nil, huma.Error422UnprocessableEntity("there is no such webhook", &huma.ErrorDetail{Location: "body.webhook", Message: fmt.Sprintf("audit.webhooks in the configuration has no webhook with the name %q", in.Body.Webhook)})
	}
	filter := audit.Filter{Event: in.Body.Event, From: in.Body.Since, Until: in.Body.Until, After: after}
	sent, last, err := a.config.Replay(ctx, in.Body.Webhook, filter, in.DryRun)
	if err != nil {
		return nil, err
	}
	out := &replayAuditOutput{api.AuditReplayed{Records: sent}}
	if last != "" {
		out.Body.Next = cursor(last)
	}
	return out, nil
}

package manage

import (
	"context"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/manage/api"
)

func (a *API) registerAudit() {
	register(a, api.AuditRead, operation{id: "list-audit-records", method: http.MethodGet, path: "/audit", summary: "List who did what, the newest first"}, a.listAudit)
}

// AuditFilter are the parameters that select audit records. It is exported because huma reads the
// fields of exported types only.
type AuditFilter struct {
	Actor    string    `query:"actor" maxLength:"512" doc:"ID of the user or client that made the change"`
	Subject  string    `query:"sub" maxLength:"255" doc:"The user whom the record is about"`
	ClientID string    `query:"client_id" maxLength:"512" doc:"The client that the record is about"`
	Event    string    `query:"event" maxLength:"255" doc:"Name of an event, or the beginning of names: user.*"`
	Since    time.Time `query:"since" doc:"Not before"`
	Until    time.Time `query:"until" doc:"Before"`
}

func (f *AuditFilter) filter() audit.Filter {
	return audit.Filter{Actor: f.Actor, Subject: f.Subject, ClientID: f.ClientID, Event: f.Event, From: f.Since, Until: f.Until}
}

type listAuditInput struct {
	List
	AuditFilter
}

type listAuditOutput struct{ Body api.AuditPage }

func (a *API) listAudit(ctx context.Context, _ *principal, in *listAuditInput) (*listAuditOutput, error) {
	after, err := in.after()
	if err != nil {
		return nil, err
	}
	filter := in.filter()
	filter.After, filter.Limit = after, in.Limit
	found, err := a.config.Store.AuditRecords(ctx, filter)
	if err != nil {
		return nil, err
	}
	page := api.AuditPage{Records: make([]api.AuditRecord, len(found))}
	if len(found) == in.Limit {
		page.Next = cursor(found[in.Limit-1].ID)
	}
	for i := range found {
		r := &found[i]
		page.Records[i] = api.AuditRecord{
			ID: r.ID, Time: r.Time, Event: r.Event,
			Actor:      auditActor(&r.Actor),
			ObjectKind: r.Object.Kind, ObjectID: r.Object.ID, ObjectName: r.Object.Name, Subject: r.Subject, ClientID: r.ClientID,
			Before: r.Before, After: r.After, Details: r.Details, Sequence: r.Sequence, Foreign: r.Foreign,
		}
	}
	return &listAuditOutput{page}, nil
}

func auditActor(a *audit.Actor) api.AuditActor {
	return api.AuditActor{Kind: string(a.Kind), ID: a.ID, Name: a.Name, OnBehalfOf: a.OnBehalfOf,
		ClientID: a.ClientID, Address: a.Address, Reference: a.Reference, TraceID: a.TraceID}
}

package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// AuditRecord says who did what.
type AuditRecord struct {
	ID         string                     `json:"id"`
	Time       time.Time                  `json:"time"`
	Event      string                     `json:"event"`
	Actor      AuditActor                 `json:"actor"`
	ObjectKind string                     `json:"object_kind,omitempty" doc:"Such as user, client, scope, resource, key, grant, session, token"`
	ObjectID   string                     `json:"object_id,omitempty"`
	ObjectName string                     `json:"object_name,omitempty"`
	Subject    string                     `json:"sub,omitempty"`
	ClientID   string                     `json:"client_id,omitempty"`
	Before     map[string]json.RawMessage `json:"before,omitempty" doc:"Members that differ; secrets are left out"`
	After      map[string]json.RawMessage `json:"after,omitempty"`
	Details    map[string]string          `json:"details,omitempty"`
	Sequence   int64                      `json:"sequence,omitempty" doc:"Position in the chain; absent until the record is sealed, about a second later"`
	Foreign    bool                       `json:"foreign,omitempty" doc:"It was not written by a server that has the master key"`
}

// AuditActor is who made a change, and from where.
type AuditActor struct {
	Kind       string `json:"kind" doc:"user, client, operator, file, system or unknown"`
	ID         string `json:"id,omitempty"`
	Name       string `json:"name,omitempty"`
	OnBehalfOf string `json:"on_behalf_of,omitempty"`
	ClientID   string `json:"client_id,omitempty" doc:"The client that sent the request"`
	Address    string `json:"address,omitempty"`
	Reference  string `json:"reference,omitempty"`
	TraceID    string `json:"trace_id,omitempty"`
}

// AuditPage is a page of audit records, the newest first.
type AuditPage struct {
	Records []AuditRecord `json:"records"`
	Page
}

// StoredAuditRecord is an audit record as the server stores it and has hashed it. The package audit of
// the server decodes the text, and computes the hashes again.
type StoredAuditRecord struct {
	Sequence int64  `json:"sequence,omitempty" doc:"Position in the chain; absent until the record is sealed, about a second later"`
	Hash     string `json:"hash,omitempty" doc:"The hash of the chain up to this record, in hexadecimal"`
	Foreign  bool   `json:"foreign,omitempty" doc:"It was not written by a server that has the master key"`
	Text     string `json:"text" doc:"The record as JSON, unchanged: the hash is computed from this text"`
	// Index is what a search finds the record by. It is in the records of the chain.
	Index *AuditIndex `json:"index,omitempty" doc:"What a search finds the record by: the same as in the text, unless someone has changed it"`
}

// AuditIndex are the members of a record that the server repeats next to it.
type AuditIndex struct {
	ID       string `json:"id"`
	Event    string `json:"event"`
	Actor    string `json:"actor,omitempty"`
	Subject  string `json:"sub,omitempty"`
	ClientID string `json:"client_id,omitempty"`
}

// StoredAuditPage is a page of records, the oldest first.
type StoredAuditPage struct {
	Records []StoredAuditRecord `json:"records"`
	Page
}

// AuditChain describes the chain of audit records.
type AuditChain struct {
	Sequence    int64  `json:"sequence" doc:"The last record; 0 if there is none"`
	Hash        string `json:"hash,omitempty" doc:"The hash of the chain up to that record, in hexadecimal"`
	Removed     int64  `json:"removed,omitempty" doc:"The last record that was removed because of its age"`
	RemovedHash string `json:"removed_hash,omitempty" doc:"The hash of the chain up to that record"`
	Anchor      string `json:"anchor,omitempty" doc:"The signed statement about the removed records (JWS)"`
	Key         string `json:"key" doc:"The thumbprint (RFC 7638) of the key with which the server signs checkpoints"`
}

// AuditCheckpoint is a signed statement about the end of the chain, to keep elsewhere.
type AuditCheckpoint struct {
	Sequence   int64     `json:"sequence"`
	Hash       string    `json:"hash,omitempty" doc:"In hexadecimal"`
	Time       time.Time `json:"time"`
	Key        string    `json:"key" doc:"The thumbprint (RFC 7638) of the key that has signed"`
	Checkpoint string    `json:"checkpoint" doc:"The statement (JWS)"`
}

// AuditReplay selects records to send to a webhook again.
type AuditReplay struct {
	Webhook string    `json:"webhook" minLength:"1" maxLength:"255" doc:"The name of the webhook in the configuration"`
	Event   string    `json:"event,omitempty" maxLength:"255" doc:"Name of an event, or the beginning of names: user.*"`
	Since   time.Time `json:"since" doc:"Not before"`
	Until   time.Time `json:"until,omitzero" doc:"Before; now if it is left out"`
	Cursor  string    `json:"cursor,omitempty" maxLength:"1024" doc:"The member next of the previous response"`
}

// AuditReplayed says what was sent again.
type AuditReplayed struct {
	Records int `json:"records" doc:"How many records wait to be sent now"`
	// Next is Cursor of the request that continues; "" if there are no more records.
	Next string `json:"next,omitempty" doc:"The cursor of the next request; absent if there are no more records"`
}

// Audit returns a page of audit records, the newest first. The filters are actor, sub, client_id,
// event, since and until.
func (c *Connection) Audit(ctx context.Context, list List) (*AuditPage, error) {
	page, _, err := get[AuditPage](ctx, c, "/audit", list.query())
	return page, err
}

// StoredAudit returns a page of audit records as they are stored, the oldest first. The filters are those
// of Audit. A page can be empty and still have a next one.
func (c *Connection) StoredAudit(ctx context.Context, list List) (*StoredAuditPage, error) {
	page, _, err := get[StoredAuditPage](ctx, c, "/audit/records", list.query())
	return page, err
}

// AuditChain describes the chain of audit records.
func (c *Connection) AuditChain(ctx context.Context) (*AuditChain, error) {
	chain, _, err := get[AuditChain](ctx, c, "/audit/chain", nil)
	return chain, err
}

// AuditChainRecords returns the records of the chain after a sequence number, at most limit; none after
// the last one.
func (c *Connection) AuditChainRecords(ctx context.Context, after int64, limit int) ([]StoredAuditRecord, error) {
	query := url.Values{"after": {strconv.FormatInt(after, 10)}, "limit": {strconv.Itoa(limit)}}
	page, _, err := get[StoredAuditPage](ctx, c, "/audit/chain/records", query)
	if err != nil {
		return nil, err
	}
	return page.Records, nil
}

// AuditCheckpoint returns a signed checkpoint of the end of the chain.
func (c *Connection) AuditCheckpoint(ctx context.Context) (*AuditCheckpoint, error) {
	checkpoint, _, err := get[AuditCheckpoint](ctx, c, "/audit/checkpoint", nil)
	return checkpoint, err
}

// ReplayAudit sends records to a webhook again, up to a thousand in one call.
func (c *Connection) ReplayAudit(ctx context.Context, replay AuditReplay, change Change) (*AuditReplayed, error) {
	replayed, _, err := send[AuditReplayed](ctx, c, request{method: http.MethodPost, path: "/audit/replay", change: change, in: replay})
	return replayed, err
}

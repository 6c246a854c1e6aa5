package manage_test

import (
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/manage/api"
)

// open opens the database of a server once more.
func open(t *testing.T, config *configuration.Configuration) *database.Database {
	t.Helper()
	store, err := database.Open(t.Context(), config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// What the API returns is enough to compute every hash again.
func TestTheChainCanBeVerifiedByItsReader(t *testing.T) {
	var config configuration.Configuration
	s := start(t, func(c *valetkey.Config) { config = c.Configuration })
	store := open(t, &config)
	auditor := s.connect(s.token(t, "auditor", nil))
	for i := range 5 {
		if err := store.WriteAudit(t.Context(), audit.Record{Event: "user.updated", Subject: "user " + strconv.Itoa(i), Actor: audit.Actor{Kind: audit.KindUser, ID: "ada"}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := store.SealAudit(t.Context()); err != nil {
		t.Fatal(err)
	}
	chain, err := auditor.AuditChain(t.Context())
	if err != nil || chain.Sequence < 5 || chain.Key != store.AuditKey() {
		t.Fatalf("the chain is %+v, %v", chain, err)
	}
	var hash []byte
	var last int64
	for last < chain.Sequence {
		records, err := auditor.AuditChainRecords(t.Context(), last, 2)
		if err != nil || len(records) == 0 || len(records) > 2 {
			t.Fatalf("after %d: %d records, %v", last, len(records), err)
		}
		for _, r := range records {
			last++
			if hash = audit.NextHash(hash, r.Sequence, r.Foreign, r.Text); r.Sequence != last || r.Hash != hex.EncodeToString(hash) {
				t.Errorf("record %d: sequence %d, hash %s, want %x", last, r.Sequence, r.Hash, hash)
			}
			decoded, err := audit.Decode(r.Text)
			if err != nil || r.Index == nil || r.Index.ID != decoded.ID || r.Index.Event != decoded.Event || r.Index.Actor != decoded.Actor.ID || r.Index.Subject != decoded.Subject {
				t.Errorf("record %d is found by %+v, %v", last, r.Index, err)
			}
		}
	}
	if none, err := auditor.AuditChainRecords(t.Context(), last+1000, 2); err != nil || len(none) != 0 {
		t.Errorf("after the end: %+v, %v", none, err)
	}
	checkpoint, err := auditor.AuditCheckpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	signed, err := audit.ParseCheckpoint(checkpoint.Checkpoint)
	if err != nil || signed.Key != chain.Key || signed.Sequence != checkpoint.Sequence || signed.Issuer != s.url || hex.EncodeToString(signed.Hash) != checkpoint.Hash {
		t.Errorf("the checkpoint is %+v, %v", signed, err)
	}
}

func TestStoredRecordsAreListedOldestFirst(t *testing.T) {
	var config configuration.Configuration
	s := start(t, func(c *valetkey.Config) { config = c.Configuration })
	store := open(t, &config)
	auditor := s.connect(s.token(t, "auditor", nil))
	long := strings.Repeat("x", 500)
	for i := range 7 {
		r := audit.Record{Event: "user.updated", Subject: "bob", Details: map[string]string{"n": strconv.Itoa(i), "long": long}}
		if i == 3 {
			r.Event = "client.updated"
		}
		if err := store.WriteAudit(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	got := func(list api.List) (numbers string) {
		t.Helper()
		entries := func(p *api.StoredAuditPage) ([]api.StoredAuditRecord, string) { return p.Records, p.Next }
		for r, err := range api.All(t.Context(), list, auditor.StoredAudit, entries) {
			if err != nil {
				t.Fatal(err)
			}
			decoded, err := audit.Decode(r.Text)
			if err != nil {
				t.Fatal(err)
			}
			numbers += decoded.Details["n"]
		}
		return numbers
	}
	for _, limit := range []int{1, 2, 3, 7, 1000} {
		if n := got(api.List{Limit: limit, Filter: url.Values{"sub": {"bob"}}}); n != "0123456" {
			t.Errorf("with the limit %d: %s", limit, n)
		}
	}
	if n := got(api.List{Limit: 2, Filter: url.Values{"sub": {"bob"}, "event": {"user.*"}}}); n != "012456" {
		t.Errorf("of one kind: %s", n)
	}
	if n := got(api.List{Filter: url.Values{"sub": {"bob"}, "until": {time.Now().Add(-time.Hour).Format(time.RFC3339)}}}); n != "" {
		t.Errorf("an hour ago: %s", n)
	}
	_, err := auditor.StoredAudit(t.Context(), api.List{Cursor: "!"})
	wantStatus(t, "a cursor from elsewhere", err, http.StatusBadRequest)
}

// A replay needs the permission to send messages, and leaves a record of who wanted it.
func TestRecordsAreSentToAWebhookAgain(t *testing.T) {
	const records = 1020 // more than one request sends
	began := time.Now().Add(-time.Minute)
	var config configuration.Configuration
	s := start(t, func(c *valetkey.Config) {
		// The records are there before the server, which sends by itself only what comes later. Nothing
		// listens at the webhook, so messages wait.
		c.Audit.Webhooks = []configuration.AuditWebhook{{Name: "siem", URL: "https://127.0.0.1:1/", Secret: "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", Events: []string{"user.updated"}}}
		config = c.Configuration
		store := open(t, &config)
		wanted := slices.Repeat([]audit.Record{{Event: "user.updated"}}, records/10)
		for range 10 {
			if err := store.WriteAudit(t.Context(), append(wanted, audit.Record{Event: "client.updated"})...); err != nil {
				t.Fatal(err)
			}
			if _, err := store.SealAudit(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
	store := open(t, &config)
	operator, auditor := s.connect(s.token(t, "operator", nil)), s.connect(s.token(t, "auditor", nil))
	replay := api.AuditReplay{Webhook: "siem", Event: "user.updated", Since: began, Until: time.Now()}
	_, err := auditor.ReplayAudit(t.Context(), replay, noChange)
	wantStatus(t, "an auditor", err, http.StatusForbidden)
	_, err = operator.ReplayAudit(t.Context(), api.AuditReplay{Webhook: "other", Since: began}, noChange)
	wantStatus(t, "a webhook that is not configured", err, http.StatusUnprocessableEntity)

	dry, err := operator.ReplayAudit(t.Context(), replay, api.Change{DryRun: true})
	if err != nil || dry.Records != 1000 || dry.Next == "" {
		t.Errorf("dry run: %+v, %v", dry, err)
	}
	if n := waiting(t, store); n != 0 {
		t.Errorf("a dry run leaves %d messages", n)
	}
	first, err := operator.ReplayAudit(t.Context(), replay, noChange)
	if err != nil || first.Records != 1000 || first.Next == "" {
		t.Fatalf("first request: %+v, %v", first, err)
	}
	replay.Cursor = first.Next
	second, err := operator.ReplayAudit(t.Context(), replay, noChange)
	if err != nil || second.Records != records-1000 || second.Next != "" {
		t.Fatalf("second request: %+v, %v", second, err)
	}
	if n := waiting(t, store); n != records {
		t.Errorf("%d messages wait, want %d", n, records)
	}
	page, err := auditor.Audit(t.Context(), api.List{Filter: url.Values{"event": {"audit.replayed"}}})
	if err != nil || len(page.Records) != 2 {
		t.Fatalf("the log has %+v, %v", page, err)
	}
	if r := page.Records[1]; r.Actor.ID != "operator" || r.Details["webhook"] != "siem" || r.Details["records"] != "1000" {
		t.Errorf("the record is %+v", r)
	}
}

func waiting(t *testing.T, store *database.Database) int {
	t.Helper()
	n, err := store.AuditOutbox().Waiting(t.Context(), "siem")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

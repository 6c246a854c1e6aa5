package sqldb

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

func TestFailedMessagesAreKeptAndCanBeSentAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, databaseURL string) {
		s := openTest(t, databaseURL)
		ctx := t.Context()
		now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
		fail := func(id, owner string) {
			t.Helper()
			if err := s.Mail().Enqueue(ctx, storage.Message{ID: id, Owner: owner, Data: []byte("data of " + id), Created: now, Due: now}); err != nil {
				t.Fatal(err)
			}
			if err := s.Mail().Fail(ctx, id, now, strings.Repeat("550 ö\x00", 200)); err != nil {
				t.Fatal(err)
			}
			now = now.Add(time.Millisecond)
		}
		fail("first", "quiet")
		for i := range storage.MaxFailedPerOwner + 3 {
			fail(fmt.Sprintf("m%03d", i), "loud")
		}
		var ids []string
		for after := ""; ; after = ids[len(ids)-1] {
			page, err := s.FailedMessages(ctx, storage.OutboxUsers, after, 100)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range page {
				ids = append(ids, m.ID)
				if m.Cause == "" || len(m.Cause) > 600 || strings.ContainsRune(m.Cause, 0) {
					t.Fatalf("the cause is %q", m.Cause)
				}
			}
			if len(page) < 100 {
				break
			}
		}
		if len(ids) != storage.MaxFailedPerOwner+1 || ids[0] != "first" || ids[1] != "m003" {
			t.Errorf("%d messages are kept, beginning with %q", len(ids), ids[:2])
		}
		if other, err := s.FailedMessages(ctx, storage.OutboxClients, "", 10); err != nil || len(other) != 0 {
			t.Errorf("another outbox has %d failed messages: %v", len(other), err)
		}
		if err := s.ChangeMessage(ctx, now, storage.OutboxUsers, "first", false, true); err != nil {
			t.Fatal(err)
		}
		if state, err := s.OutboxState(ctx, storage.OutboxUsers); err != nil || state.Waiting != 0 || state.Failed != len(ids) {
			t.Errorf("after a dry run: %+v %v", state, err)
		}
		if err := s.ChangeMessage(ctx, now, storage.OutboxUsers, "first", false, false); err != nil {
			t.Fatal(err)
		}
		claimed, err := s.Mail().Claim(ctx, now, now.Add(time.Minute), 10, 10)
		if err != nil || len(claimed) != 1 || string(claimed[0].Data) != "data of first" || !claimed[0].Created.Equal(now) {
			t.Errorf("claimed %+v: %v", claimed, err)
		}
		if err := s.ChangeMessage(ctx, now, storage.OutboxUsers, "m003", true, false); err != nil {
			t.Fatal(err)
		}
		if err := s.ChangeMessage(ctx, now, storage.OutboxUsers, "m003", true, false); err == nil {
			t.Error("a message can be dropped twice")
		}
		// AD-16: a message that is dropped may be one that warns a user.
		records, err := s.AuditRecords(ctx, audit.Filter{Event: "message.*", Ascending: true})
		if err != nil || len(records) != 2 || records[0].Event != "message.retried" || records[0].Object.ID != "first" ||
			records[1].Event != "message.dropped" || records[1].Object.ID != "m003" || records[1].Details["receiver"] != "loud" || records[1].Details["outbox"] != storage.OutboxUsers {
			t.Errorf("the audit log has %+v: %v", records, err)
		}
		if _, err := s.Reclaim(ctx, now.Add(storage.FailedKept+time.Second)); err != nil {
			t.Fatal(err)
		}
		if state, err := s.OutboxState(ctx, storage.OutboxUsers); err != nil || state.Waiting != 1 || state.Failed != 0 {
			t.Errorf("after a week: %+v %v", state, err)
		}
	})
}

func TestTracesAreFoundByClientUserAndTime(t *testing.T) {
	onBoth(t, func(t *testing.T, databaseURL string) {
		s := openTest(t, databaseURL)
		ctx := t.Context()
		now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
		trace := func(i int, client, subject, err string) record.Trace {
			return record.Trace{Ref: fmt.Sprintf("REF%d", i), Time: now.Add(time.Duration(i) * time.Minute), Endpoint: "/token", ClientID: client, Subject: subject, Error: err, Checks: []record.Check{}}
		}
		if err := s.SaveTraces(ctx, 10, trace(1, "a", "", "invalid_client"), trace(2, "a", "ada", "invalid_grant"), trace(3, "b", "ada", "invalid_grant")); err != nil {
			t.Fatal(err)
		}
		if err := s.SaveTraces(ctx, 10, trace(4, "a", "ada", ""), trace(5, "b", "bob", "")); err != nil {
			t.Fatal(err)
		}
		// A node of the previous version fills no columns.
		if _, err := s.database.write().ExecContext(ctx, `INSERT INTO traces (ref, record) VALUES ('OLD', '{"ref":"OLD","time":"2026-11-27T12:00:30Z","endpoint":"/token","client_id":"old","error":"invalid_grant","checks":[]}')`); err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			filter TraceFilter
			want   string
		}{
			{TraceFilter{Subject: "ada"}, "REF4 REF3 REF2"},
			{TraceFilter{Subject: "ada", Outcome: TraceAccepted}, "REF4"},
			{TraceFilter{ClientID: "b", Outcome: TraceRefused}, "REF3"},
			{TraceFilter{Outcome: TraceAccepted}, "REF5 REF4"},
			{TraceFilter{Since: now.Add(2 * time.Minute), Until: now.Add(4 * time.Minute)}, "REF3 REF2"},
			{TraceFilter{ClientID: "none"}, ""},
			{TraceFilter{ClientID: "old"}, "OLD"},
			{TraceFilter{ClientID: "\x00"}, ""},
		} {
			found, err := s.Traces(ctx, test.filter, 0, 2)
			if err != nil {
				t.Fatal(err)
			}
			if len(found) == 2 {
				more, err := s.Traces(ctx, test.filter, found[1].Sequence, 2)
				if err != nil {
					t.Fatal(err)
				}
				found = append(found, more...)
			}
			refs := ""
			for _, f := range found {
				refs = strings.TrimSpace(refs + " " + f.Ref)
			}
			if refs != test.want {
				t.Errorf("%+v finds %q, want %q", test.filter, refs, test.want)
			}
		}
		if _, err := s.Reclaim(ctx, now.Add(acceptedKept+4*time.Minute+time.Second)); err != nil {
			t.Fatal(err)
		}
		found, err := s.Traces(ctx, TraceFilter{Outcome: TraceAccepted}, 0, 10)
		if err != nil || len(found) != 1 || found[0].Ref != "REF5" {
			t.Errorf("after a day, %d accepted requests are left: %v", len(found), err)
		}
	})
}

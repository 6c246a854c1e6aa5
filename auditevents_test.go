package valetkey

import (
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/internal/event"
)

// A stranger who fails very often adds a bounded number of records, and the log says how many are
// missing.
func TestAuditedEventsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := newAuditEvents()
		log := event.New(slog.New(&auditHandler{slog.DiscardHandler, events}))
		defer log.Close()
		quiet := event.New(slog.New(&auditHandler{slog.NewTextHandler(t.Output(), nil), events}))
		defer quiet.Close()
		quiet.Record(t.Context(), event.SignInFailed, slog.String("username", "ada"), slog.String("sub", "u1"), event.Address(netip.MustParseAddr("192.0.2.1")))
		quiet.Record(t.Context(), event.PasswordChanged, slog.String("sub", "u1"))
		first := events.take(time.Now())
		if len(first) != 1 || first[0].Event != "sign_in.failed" || first[0].Subject != "u1" || first[0].Actor.Address != "192.0.2.1" || first[0].Details["username"] != "ada" {
			t.Fatalf("records %+v", first)
		}
		stored := 0
		for minute := range 3000 { // 50 hours
			for i := range 12 {
				from := netip.AddrFrom4([4]byte{198, 51, byte(minute), byte(i)})
				events.add(time.Now(), audit.Record{Event: "sign_in.failed", Actor: audit.Actor{Address: from.String()}})
			}
			time.Sleep(time.Minute)
			for _, r := range events.take(time.Now()) {
				if r.Event == "audit.left_out" && r.Details["count"] == "0" {
					t.Error("a record says that nothing was left out")
				}
				stored++
			}
		}
		if stored > 10_000 || stored < 8000 {
			t.Errorf("%d records in two days", stored)
		}
	})
}

// A stranger from one address, or with one kind of event, cannot keep other events out of
// the log.
func TestSH06_AStrangerDoesNotHideWhatOthersDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := newAuditEvents()
		stranger := audit.Actor{Address: "2001:db8:0:1::9"}
		ofStranger := 0
		for range 24 * 60 {
			for _, event := range []string{"request.refused", "client.authentication_failed", "sign_in.failed"} {
				for range 30 {
					events.add(time.Now(), audit.Record{Event: event, Actor: stranger})
				}
			}
			ofStranger += len(events.take(time.Now()))
			time.Sleep(time.Minute)
		}
		events.take(time.Now())
		for i := range 5000 { // of many addresses
			events.add(time.Now(), audit.Record{Event: "request.refused", Actor: audit.Actor{Address: netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}).String()}})
		}
		events.add(time.Now(), audit.Record{Event: "sign_in.failed", Subject: "u1", Actor: audit.Actor{Address: "192.0.2.1"}})
		events.add(time.Now(), audit.Record{Event: "account.exported", Subject: "u1", Actor: audit.Actor{Address: "192.0.2.1"}})
		of := map[string]int{}
		for _, r := range events.take(time.Now()) {
			if r.Subject == "u1" {
				of[r.Event]++
			}
		}
		if of["sign_in.failed"] != 1 || of["account.exported"] != 1 {
			t.Errorf("after the flood of a stranger, the log has %v", of)
		}
		if ofStranger > 1500 {
			t.Errorf("one address has added %d records in a day", ofStranger)
		}
	})
}

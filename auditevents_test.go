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
		events := &auditEvents{}
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
		for range 3000 { // 50 hours
			for range 100 {
				events.add(time.Now(), audit.Record{Event: "sign_in.failed"})
			}
			time.Sleep(time.Minute)
			for _, r := range events.take(time.Now()) {
				if r.Event == "audit.left_out" && r.Details["count"] == "0" {
					t.Error("a record says that nothing was left out")
				}
				stored++
			}
		}
		if stored > 3*maxEventsDay+100 || stored < maxEventsDay {
			t.Errorf("%d records in two days", stored)
		}
	})
}

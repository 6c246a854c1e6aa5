package authserver

import (
	"testing"
	"time"

	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// Stores use record.SessionOf to read the session of a ticket.
func TestSessionOfAnAuthorization(t *testing.T) {
	for _, want := range []string{"", "session"} {
		a := authorization{ClientID: "app", Subject: "alice", Session: want, Opaque: &opaqueToken{IssuedAt: 1}}
		ticket, err := a.ticket(storage.Kind("code").Hash("secret"), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if got := record.SessionOf(ticket); got != want {
			t.Errorf("SessionOf: got %q, want %q", got, want)
		}
	}
}

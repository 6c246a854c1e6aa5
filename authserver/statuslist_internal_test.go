package authserver

import (
	"testing"
	"time"
)

// The number of unexpired tokens that a client may revoke is limited, so that one client cannot
// fill the status lists.
func TestAClientCannotFillTheStatusLists(t *testing.T) {
	var e endedOfClients
	now := time.Now()
	app, other, third, fourth := endedOwner{client: "app"}, endedOwner{client: "other"}, endedOwner{client: "third"}, endedOwner{client: "fourth"}
	for i := range maxEndedPerClient {
		if !e.add(app, now, now.Add(10*time.Minute)) {
			t.Fatalf("token %d is refused", i)
		}
	}
	if e.add(app, now, now.Add(10*time.Minute)) {
		t.Error("a client can exceed its limit")
	}
	if !e.add(other, now, now.Add(10*time.Minute)) {
		t.Error("the limit of one client affects another client")
	}
	for range maxEndedPerUser {
		e.add(endedOwner{"app", "ada"}, now, now.Add(10*time.Minute))
	}
	if e.add(endedOwner{"app", "ada"}, now, now.Add(10*time.Minute)) {
		t.Error("a client can exceed its limit for one user")
	}
	if !e.add(endedOwner{"app", "ben"}, now, now.Add(10*time.Minute)) {
		t.Error("the limit for one user affects another user")
	}
	later := now.Add(12 * time.Minute)
	if !e.add(app, later, later.Add(10*time.Minute)) {
		t.Error("expired tokens still count")
	}
	for range maxEndedPerClient {
		e.add(third, later, later)
	}
	e.add(fourth, later.Add(time.Hour), later.Add(2*time.Hour))
	if len(e.counts) != 1 {
		t.Errorf("%d clients are counted, want 1", len(e.counts))
	}
}

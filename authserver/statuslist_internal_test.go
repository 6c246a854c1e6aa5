package authserver

import (
	"testing"
	"time"
)

// A client that revokes thousands of tokens cannot fill the lists for the others. It can revoke
// more when those have expired.
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
		t.Error("it can revoke any number of tokens")
	}
	if !e.add(other, now, now.Add(10*time.Minute)) {
		t.Error("another client cannot revoke a token")
	}
	for range maxEndedPerUser {
		e.add(endedOwner{"app", "ada"}, now, now.Add(10*time.Minute))
	}
	if e.add(endedOwner{"app", "ada"}, now, now.Add(10*time.Minute)) {
		t.Error("any number of one user's tokens can be revoked")
	}
	if !e.add(endedOwner{"app", "ben"}, now, now.Add(10*time.Minute)) {
		t.Error("no token of another user of the client can be revoked")
	}
	later := now.Add(12 * time.Minute)
	if !e.add(app, later, later.Add(10*time.Minute)) {
		t.Error("it can revoke none after the others have expired")
	}
	for range maxEndedPerClient {
		e.add(third, later, later)
	}
	e.add(fourth, later.Add(time.Hour), later.Add(2*time.Hour))
	if len(e.counts) != 1 {
		t.Errorf("%d clients are counted, want 1", len(e.counts))
	}
}

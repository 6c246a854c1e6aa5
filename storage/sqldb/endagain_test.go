package sqldb

import (
	"testing"
	"time"

	"github.com/valetkey/valetkey/identity"
)

// While a change of the password is being committed, another connection still sees the session and
// EndedAt as they were. A code that is issued and redeemed then must not outlive the change, and
// neither must its refresh token.
func TestAC09_WhatIsIssuedDuringAPasswordChangePostgreSQL(t *testing.T) {
	s := openTest(t, postgreSQLDatabase(t))
	ctx := t.Context()
	user := &identity.User{ID: "a", Username: "alice", PasswordHash: "old", CreatedAt: time.Now()}
	if err := s.CreateUser(ctx, user); err != nil {
		t.Fatal(err)
	}
	var issued time.Time
	started := time.Now()
	err := s.UpdateUser(ctx, "a", func(u *identity.User) error {
		u.PasswordHash = "new"
		u.End(started, nil)
		// EndedAt is decided, and the transaction is not committed.
		issued = time.Now()
		for time.Now().UnixMilli() <= issued.UnixMilli() { // stores keep milliseconds
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	validity, err := s.UserValidity(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	if validity.Includes(issued, "session") {
		t.Errorf("what was issued at %v during the change is valid after it: EndedAt is %v", issued, validity.EndedAt)
	}
}

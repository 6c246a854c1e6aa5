package sqldb

import (
	"testing"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage/declaration"
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

// The same is true of a password that the operator declares, and of all that is issued while the
// declaration waits for its locks.
func TestAC09_WhatIsIssuedDuringADeclaredPasswordChangePostgreSQL(t *testing.T) {
	s := openTest(t, postgreSQLDatabase(t))
	ctx := t.Context()
	hash, err := identity.HashPassword("a lighthouse keeper's cat")
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []*identity.User{
		{ID: "a", Username: "alice", PasswordHash: hash, Origin: identity.OriginDeclared, CreatedAt: time.Now()},
		{ID: "b", Username: "bob", PasswordHash: hash, Origin: identity.OriginDeclared, CreatedAt: time.Now()},
		{ID: "c", Username: "carol", PasswordHash: hash, Origin: identity.OriginDeclared, CreatedAt: time.Now()},
	} {
		if err := s.CreateUser(ctx, user); err != nil {
			t.Fatal(err)
		}
	}
	disabled := true
	newPassword := declaration.Password{Named: true, Mark: func(string) string { return "mark" }, Hash: hash}
	in := declaration.Input{Now: time.Now(), Users: []declaration.User{
		{Username: "alice", Password: newPassword}, {Username: "bob", Password: newPassword, Disabled: &disabled},
		{Username: "carol", Claims: map[string]any{"name": "Carol"}},
	}}
	var issued time.Time
	err = s.Reconcile(ctx, in.Now, in.Selection(), func(state *declaration.State) (*declaration.Plan, error) {
		// EndedAt is decided, and the transaction is not committed.
		issued = time.Now()
		for time.Now().UnixMilli() <= issued.UnixMilli() { // stores keep milliseconds
		}
		plan := declaration.Reconcile(&in, state)
		return &plan, declaration.Conflicts(plan.Changes)
	})
	if err != nil {
		t.Fatal(err)
	}
	for id, valid := range map[string]bool{"a": false, "b": false, "c": true} {
		validity, err := s.UserValidity(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		validity.Active = true // bob is enabled again
		if validity.Includes(issued, "session") != valid {
			t.Errorf("user %s: what was issued at %v during the change is valid: %v; EndedAt is %v", id, issued, !valid, validity.EndedAt)
		}
	}
}

package identity

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// between runs a function after a password was hashed and before the result is stored.
type between struct {
	*mapStore
	run func(stored *User)
}

func (s *between) UpdateUser(ctx context.Context, id string, update func(*User) error) error {
	if run := s.run; run != nil {
		s.run = nil
		err := s.mapStore.UpdateUser(ctx, id, func(stored *User) error {
			run(stored)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return s.mapStore.UpdateUser(ctx, id, update)
}

func TestOP07_HashingAPasswordKeepsConcurrentChanges(t *testing.T) {
	weak, err := bcrypt.GenerateFromPassword([]byte("lunar module 11"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	other, err := HashPassword("command module 12")
	if err != nil {
		t.Fatal(err)
	}
	operations := map[string]func(a *Accounts) error{
		"the rehash at sign-in": func(a *Accounts) error {
			_, err := a.Authenticate(t.Context(), start, Attempt{Identifier: "alice", Password: "lunar module 11"})
			return err
		},
		"a change of the password": func(a *Accounts) error {
			return a.ChangePassword(t.Context(), start, PasswordChange{UserID: "a", Current: "lunar module 11", New: "service module 13"})
		},
	}
	for name, operation := range operations {
		for change, run := range map[string]func(stored *User){
			"disabled":         func(stored *User) { stored.Disabled = true },
			"another password": func(stored *User) { stored.PasswordHash = other },
		} {
			u := alice(t)
			if name == "the rehash at sign-in" {
				u.PasswordHash = string(weak)
			}
			store := &between{mapStore: newMapStore(u), run: run}
			if err := operation(accounts(t, store)); !errors.Is(err, ErrWrongCredentials) {
				t.Errorf("%s during %s: %v", name, change, err)
			}
			want := *u
			run(&want)
			if got, _ := store.User(t.Context(), "a"); got.Disabled != want.Disabled || got.PasswordHash != want.PasswordHash {
				t.Errorf("%s undoes %s", name, change)
			}
		}
		// Other fields are kept and do not make it fail.
		store := &between{mapStore: newMapStore(alice(t)), run: func(stored *User) { stored.Administrator = true }}
		if err := operation(accounts(t, store)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if name == "a change of the password" && !store.users["a"].Administrator {
			t.Errorf("%s undoes a change by the operator", name)
		}
	}
}

// A password that is changed while it is being checked does not start a session.
func TestOldPasswordStartsNoSessionAfterItsChange(t *testing.T) {
	store := newMapStore(alice(t))
	a := accounts(t, store)
	user, err := a.Authenticate(t.Context(), start, Attempt{Identifier: "alice", Password: "lunar module 11"})
	if err != nil {
		t.Fatal(err)
	}
	change := PasswordChange{UserID: "a", Current: "lunar module 11", New: "service module 13", EndOthers: true}
	if err := a.ChangePassword(t.Context(), start, change); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.StartSession(t.Context(), start, user, SessionDetails{}, nil); !errors.Is(err, ErrWrongCredentials) {
		t.Errorf("StartSession: %v", err)
	}
	if sessions, err := a.Sessions(t.Context(), start, "a"); err != nil || len(sessions) != 0 {
		t.Errorf("%d sessions, %v", len(sessions), err)
	}
}

// Package sessiontest tests implementations of client.SessionStore. Call Run in the tests of a
// store:
//
//	func TestStore(t *testing.T) {
//		sessiontest.Run(t, func(t *testing.T) client.SessionStore { return newStore(t) })
//	}
package sessiontest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valetkey/valetkey/oauth/client"
)

// Run tests a store. open is called for each test case and returns a store that is empty or has
// sessions of other users.
func Run(t *testing.T, open func(t *testing.T) client.SessionStore) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, client.SessionStore)
	}{
		{"sessions are stored completely", roundTrip},
		{"unknown IDs have no session", unknown},
		{"expired sessions are not returned", expired},
		{"the returned session belongs to the caller", ownCopy},
		{"Replace increments the version", versions},
		{"of concurrent Replace calls, one succeeds", race},
		{"no concurrent change is lost", increments},
		{"an ended session does not come back", ended},
		{"concurrent Delete and Replace leave no session", deleteRace},
		{"DeleteSignedOut deletes the right sessions", signedOut},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// Session returns a session with all fields set, of a new user.
func Session() *client.Session {
	now := time.Now().Round(0).UTC().Truncate(time.Second)
	subject := "user-" + rand.Text()
	claims := json.RawMessage(`{"sub":"` + subject + `","name":"Zoë <&>\u2028"}`)
	return &client.Session{
		ID: rand.Text(), Issuer: "https://login.example.com", Subject: subject, SessionID: "sid-" + rand.Text(), SessionState: "s.t",
		Tokens: &client.Tokens{
			AccessToken: rand.Text(), TokenType: "Bearer", Expiry: now.Add(time.Hour), Issued: now, RefreshToken: rand.Text(),
			Scope: []string{"openid", "photos:read"}, IDToken: strings.Repeat("long", 2000),
			Identity: &client.IDToken{
				Issuer: "https://login.example.com", Subject: subject, Audience: []string{"app"}, Expiry: now.Add(time.Hour), IssuedAt: now,
				Claims: claims,
			},
		},
		UserInfo: &client.UserInfo{Subject: subject, Claims: claims},
		Data:     map[string]string{"role": "editor"},
		Started:  now, Expires: now.Add(12 * time.Hour), Renewing: now.Add(time.Second),
	}
}

func put(t *testing.T, store client.SessionStore, s *client.Session) *client.Session {
	t.Helper()
	if err := store.Put(t.Context(), s); err != nil {
		t.Fatalf("put: %v", err)
	}
	return s
}

func get(t *testing.T, store client.SessionStore, id string) *client.Session {
	t.Helper()
	s, err := store.Get(t.Context(), id)
	if err != nil {
		t.Fatalf("get: %v", err)
	}
	return s
}

func replace(t *testing.T, store client.SessionStore, s *client.Session) bool {
	t.Helper()
	replaced, err := store.Replace(t.Context(), s)
	if err != nil {
		t.Fatalf("replace: %v", err)
	}
	return replaced
}

func roundTrip(t *testing.T, store client.SessionStore) {
	want := put(t, store, Session())
	other := put(t, store, Session())
	for _, s := range []*client.Session{want, other} {
		got := get(t, store, s.ID)
		if got == nil {
			t.Fatal("the session is missing")
		}
		if put, got := normal(t, s), normal(t, got); !reflect.DeepEqual(put, got) {
			t.Errorf("put %v, got %v", put, got)
		}
	}
	if err := store.Delete(t.Context(), want.ID); err != nil {
		t.Fatal(err)
	}
	if get(t, store, want.ID) != nil || get(t, store, other.ID) == nil {
		t.Error("Delete did not delete its session, or deleted another one")
	}
	if err := store.Delete(t.Context(), want.ID); err != nil {
		t.Errorf("second Delete: %v", err)
	}
}

// normal returns a session in a form that can be compared.
func normal(t *testing.T, s *client.Session) map[string]any {
	t.Helper()
	document, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(document, &members); err != nil {
		t.Fatal(err)
	}
	return members
}

func unknown(t *testing.T, store client.SessionStore) {
	for _, id := range []string{"", rand.Text(), "' OR '1'='1", "%", "\u00e9\u0000"[:2]} {
		if get(t, store, id) != nil {
			t.Errorf("%q has a session", id)
		}
		if err := store.Delete(t.Context(), id); err != nil {
			t.Errorf("delete %q: %v", id, err)
		}
	}
	if replace(t, store, Session()) {
		t.Error("a session was replaced that was never stored")
	}
}

func expired(t *testing.T, store client.SessionStore) {
	s := Session()
	s.Expires = time.Now().Add(-time.Second)
	put(t, store, s)
	if get(t, store, s.ID) != nil {
		t.Error("the expired session was returned")
	}
	s.Expires = time.Now().Add(time.Hour)
	if replace(t, store, s) || get(t, store, s.ID) != nil {
		t.Error("it came back")
	}
}

func ownCopy(t *testing.T, store client.SessionStore) {
	s := put(t, store, Session())
	first := get(t, store, s.ID)
	first.Subject, first.Tokens, first.Renewing = "changed", &client.Tokens{AccessToken: "changed"}, time.Now()
	again := get(t, store, s.ID)
	if again.Subject != s.Subject || again.Tokens.AccessToken == "changed" {
		t.Error("a change of the returned session changed the stored one")
	}
}

func versions(t *testing.T, store client.SessionStore) {
	s := put(t, store, Session())
	first := get(t, store, s.ID)
	stale := *first
	first.Tokens = &client.Tokens{AccessToken: "second", TokenType: "Bearer"}
	first.SessionID = "sid-" + rand.Text()
	if !replace(t, store, first) {
		t.Fatal("the current version was not replaced")
	}
	second := get(t, store, s.ID)
	if second.Version != stale.Version+1 || second.Tokens.AccessToken != "second" || second.SessionID != first.SessionID {
		t.Errorf("version %d after %d, with the token %q", second.Version, stale.Version, second.Tokens.AccessToken)
	}
	stale.Tokens = &client.Tokens{AccessToken: "stale", TokenType: "Bearer"}
	if replace(t, store, &stale) {
		t.Error("an old version was replaced")
	}
	future := *second
	future.Version++
	if replace(t, store, &future) {
		t.Error("a future version was replaced")
	}
	if got := get(t, store, s.ID); got.Tokens.AccessToken != "second" || got.Version != second.Version {
		t.Error("a rejected Replace changed the session")
	}
}

func race(t *testing.T, store client.SessionStore) {
	s := put(t, store, Session())
	for range 5 {
		var all sync.WaitGroup
		var mu sync.Mutex
		winners := 0
		present := get(t, store, s.ID)
		for i := range 8 {
			all.Go(func() {
				mine := *present
				mine.Data = map[string]string{"winner": fmt.Sprint(i)}
				replaced, err := store.Replace(t.Context(), &mine)
				if err != nil {
					t.Errorf("replace: %v", err)
				}
				if replaced {
					mu.Lock()
					winners++
					mu.Unlock()
				}
			})
		}
		all.Wait()
		if winners != 1 {
			t.Fatalf("%d Replace calls succeeded for version %d", winners, present.Version)
		}
	}
}

func increments(t *testing.T, store client.SessionStore) {
	s := Session()
	s.Data = map[string]string{"count": ""}
	put(t, store, s)
	var all sync.WaitGroup
	const workers, rounds = 4, 5
	for range workers {
		all.Go(func() {
			for done := 0; done < rounds; {
				mine, err := store.Get(t.Context(), s.ID)
				if err != nil || mine == nil {
					t.Errorf("get: %v", err)
					return
				}
				mine.Data = map[string]string{"count": mine.Data["count"] + "x"}
				replaced, err := store.Replace(t.Context(), mine)
				if err != nil {
					t.Errorf("replace: %v", err)
					return
				}
				if replaced {
					done++
				}
			}
		})
	}
	all.Wait()
	if got := len(get(t, store, s.ID).Data["count"]); got != workers*rounds {
		t.Errorf("%d of %d changes were stored", got, workers*rounds)
	}
}

func ended(t *testing.T, store client.SessionStore) {
	s := put(t, store, Session())
	present := get(t, store, s.ID)
	if err := store.Delete(t.Context(), s.ID); err != nil {
		t.Fatal(err)
	}
	if replace(t, store, present) || get(t, store, s.ID) != nil {
		t.Error("it came back")
	}
}

func deleteRace(t *testing.T, store client.SessionStore) {
	for range 10 {
		s := put(t, store, Session())
		present := get(t, store, s.ID)
		var all sync.WaitGroup
		all.Go(func() {
			if err := store.Delete(t.Context(), s.ID); err != nil {
				t.Errorf("delete: %v", err)
			}
		})
		all.Go(func() {
			if _, err := store.Replace(t.Context(), present); err != nil {
				t.Errorf("replace: %v", err)
			}
		})
		all.Wait()
		if get(t, store, s.ID) != nil {
			t.Fatal("a deleted session exists")
		}
	}
}

func signedOut(t *testing.T, store client.SessionStore) {
	alice, bob := "alice-"+rand.Text(), "bob-"+rand.Text()
	sid := "sid-" + rand.Text()
	const here, there = "https://login.example.com", "https://other.example.com"
	for _, test := range []struct {
		issuer, subject, sid string
		ends                 []string // of those below
	}{
		{here, alice, "", []string{"alice, laptop", "alice, phone", "alice, without sid"}},
		{here, "", sid, []string{"alice, laptop", "bob, with the same sid"}},
		{here, alice, sid, []string{"alice, laptop"}},
		{there, alice, "", []string{"alice elsewhere"}},
		{there, "", sid, []string{"alice elsewhere"}},
		{here, "nobody", "", nil},
		{here, "", "none", nil},
		{here, "%", "", nil},
	} {
		sessions := map[string]*client.Session{}
		for name, of := range map[string][3]string{
			"alice, laptop": {here, alice, sid}, "alice, phone": {here, alice, sid + "-2"}, "alice, without sid": {here, alice, ""},
			"bob": {here, bob, sid + "-3"}, "bob, with the same sid": {here, bob, sid}, "alice elsewhere": {there, alice, sid},
		} {
			s := Session()
			s.Issuer, s.Subject, s.SessionID = of[0], of[1], of[2]
			sessions[name] = put(t, store, s)
		}
		if err := store.DeleteSignedOut(t.Context(), test.issuer, test.subject, test.sid); err != nil {
			t.Fatal(err)
		}
		ends := map[string]bool{}
		for _, name := range test.ends {
			ends[name] = true
		}
		for name, s := range sessions {
			if gone := get(t, store, s.ID) == nil; gone != ends[name] {
				t.Errorf("sub %q and sid %q of %s: %s ended: %v", test.subject, test.sid, test.issuer, name, gone)
			}
			if err := store.Delete(t.Context(), s.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
}

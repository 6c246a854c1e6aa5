// Package sessiontest checks that a store keeps the contract of client.SessionStore. Run it in
// the tests of a store:
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

// Run checks a store. open returns one that is empty, or that holds sessions of nobody here;
// it is called for each case.
func Run(t *testing.T, open func(t *testing.T) client.SessionStore) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, client.SessionStore)
	}{
		{"what is put can be got, whole", roundTrip},
		{"unknown IDs have no session", unknown},
		{"an expired session is gone", expired},
		{"a session that was got is the caller's own", ownCopy},
		{"replacing counts versions", versions},
		{"of those who replace one version, one wins", race},
		{"nobody's change is lost", increments},
		{"an ended session does not come back", ended},
		{"deleting and replacing at once leave nothing", deleteRace},
		{"signing out ends what it names", signedOut},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// Session returns a session with everything in it, of a user who is named by no other.
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
			t.Fatal("the session is not there")
		}
		if put, got := normal(t, s), normal(t, got); !reflect.DeepEqual(put, got) {
			t.Errorf("put %v, got %v", put, got)
		}
	}
	if err := store.Delete(t.Context(), want.ID); err != nil {
		t.Fatal(err)
	}
	if get(t, store, want.ID) != nil || get(t, store, other.ID) == nil {
		t.Error("deleting one session left it, or took another")
	}
	if err := store.Delete(t.Context(), want.ID); err != nil {
		t.Errorf("delete again: %v", err)
	}
}

// normal is a session in a form that can be compared.
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
		t.Error("a session was replaced that was never put")
	}
}

func expired(t *testing.T, store client.SessionStore) {
	s := Session()
	s.Expires = time.Now().Add(-time.Second)
	put(t, store, s)
	if get(t, store, s.ID) != nil {
		t.Error("it is still there")
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
		t.Error("a change to what was got changed what is stored")
	}
}

func versions(t *testing.T, store client.SessionStore) {
	s := put(t, store, Session())
	first := get(t, store, s.ID)
	stale := *first
	first.Tokens = &client.Tokens{AccessToken: "second", TokenType: "Bearer"}
	first.SessionID = "sid-" + rand.Text()
	if !replace(t, store, first) {
		t.Fatal("the present version was not replaced")
	}
	second := get(t, store, s.ID)
	if second.Version != stale.Version+1 || second.Tokens.AccessToken != "second" || second.SessionID != first.SessionID {
		t.Errorf("version %d after %d, with the token %q", second.Version, stale.Version, second.Tokens.AccessToken)
	}
	stale.Tokens = &client.Tokens{AccessToken: "stale", TokenType: "Bearer"}
	if replace(t, store, &stale) {
		t.Error("a version that is past was replaced")
	}
	future := *second
	future.Version++
	if replace(t, store, &future) {
		t.Error("a version that is to come was replaced")
	}
	if got := get(t, store, s.ID); got.Tokens.AccessToken != "second" || got.Version != second.Version {
		t.Error("a replacement that was refused left something behind")
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
			t.Fatalf("%d replaced version %d", winners, present.Version)
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
		t.Errorf("%d of %d changes are there", got, workers*rounds)
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
			t.Fatal("a session is there that was deleted")
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

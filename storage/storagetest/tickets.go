// Package storagetest tests that a store implements the storage contracts. Each test is named
// after the sentence that it checks.
package storagetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/valetkey/valetkey/storage"
)

// The kinds of the tickets in these tests.
const (
	codes    storage.Kind = "code"
	refresh  storage.Kind = "refresh"
	sessions storage.Kind = "session"
)

// noon is the time of every test; stores get the time as an argument.
var noon = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

func ticket(kind storage.Kind, secret string) storage.Ticket {
	return storage.Ticket{Key: kind.Hash(secret), Expires: noon.Add(time.Hour), Data: []byte("data of " + secret)}
}

func inFamily(family string, t storage.Ticket) storage.Ticket {
	t.Family = family
	return t
}

func ofGrant(grant string, t storage.Ticket) storage.Ticket {
	t.Grant = grant
	return t
}

// Tickets checks the contract of storage.Tickets. open returns a new, empty store.
func Tickets(t *testing.T, open func(t *testing.T) storage.Tickets) {
	for _, c := range []struct {
		promise string
		check   func(t *testing.T, s storage.Tickets)
	}{
		{"Get returns what Put stored, to the millisecond", getReturnsWhatPutStored},
		{"Get returns ErrNotFound for a ticket that does not exist", getNotFound},
		{"GetAll returns what Get returns for each key, without those that it does not find", getAll},
		{"SG-11 a code is never found as a refresh token", kindsAreSeparate},
		{"the caller may change the returned ticket", returnedTicketIsCopy},
		{"a ticket is live while now < Expires, for every method", expiryIsAComparison},
		{"Put of a live key, spent or not, returns ErrExists", putIsInsertOnly},
		{"Put of a spent ticket stores it as spent, and without a family only its expiry removes it", putSpent},
		{"Put replaces an expired ticket", putReplacesExpired},
		{"Put stores all or none", putAllOrNone},
		{"a store accepts Data of MaxData bytes and no more", dataIsBounded},
		{"Spend marks the ticket as spent at now, and it stays readable", spendMarks},
		{"Spend of a spent ticket returns ErrSpent and stores nothing", spendTwice},
		{"Spend of a ticket that does not exist, has expired or was deleted returns ErrNotFound", spendNotFound},
		{"Spend is all or nothing", spendAllOrNothing},
		{"Spend that names a ticket twice returns ErrSpent", spendNamedTwice},
		{"SetExpires changes when a live, unspent ticket expires, and nothing else", setExpires},
		{"a ticket of KindStatus is never removed before it expires, but marked as spent", statusEnds},
		{"FindEnded returns at most limit", findEndedLimit},
		{"Delete removes tickets and ignores those that do not exist", deleteRemoves},
		{"DeleteFamily removes every ticket of the family and no other", deleteFamily},
		{"DeleteFamily removes only the named kinds", deleteFamilyKinds},
		{"DeleteFamily removes the descendants of the family, and never its ancestors", deleteDescendants},
		{"no ticket belongs to the family \"\"", emptyFamily},
		{"FindFamily returns the live tickets, spent or not, the latest expiry first, at most limit", findFamily},
		{"AC-02 of 100 callers that spend the same ticket, one succeeds and the rest get ErrSpent", raceSpend},
		{"of 100 callers that put the same ticket, one succeeds and the rest get ErrExists", racePut},
		{"AC-02 of 100 callers that put the same ticket as spent, each with another one, one succeeds", racePutSpent},
		{"a caller that fails does not affect callers that spend other tickets", raceDifferentTickets},
		{"of callers that spend the same two tickets in opposite order, one succeeds", raceOppositeOrder},
		{"RT-11 no ticket of a family survives a DeleteFamily that races refreshes", raceDeleteFamily},
		{"a caller that spends a ticket while it is deleted succeeds before or gets ErrNotFound", raceDelete},
		{"RE-06 histories of concurrent callers are linearizable", linearizable},
	} {
		t.Run(c.promise, func(t *testing.T) {
			t.Parallel()
			c.check(t, open(t))
		})
	}
}

func statusEnds(t *testing.T, s storage.Tickets) {
	status := func(name, family string) storage.Ticket { return inFamily(family, ticket(storage.KindStatus, name)) }
	ended := func(now time.Time) []string {
		t.Helper()
		found, err := s.FindEnded(t.Context(), now, 10)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, ticket := range found {
			if ticket.Spent.IsZero() {
				t.Error("FindEnded returns a ticket that is not spent")
			}
			names = append(names, string(ticket.Data))
		}
		slices.Sort(names)
		return names
	}
	wantEnded := func(what string, now time.Time, names ...string) {
		t.Helper()
		if got := ended(now); !slices.Equal(got, names) {
			t.Errorf("after %s, %q have ended, want %q", what, got, names)
		}
	}
	put(t, s, status("by family", "f"), status("by kind", "g"), status("by key", "h"), status("spent", "h"), status("live", "h"),
		inFamily("f", ticket(refresh, "by family")))
	already := status("put as ended", "h")
	already.Spent = noon
	put(t, s, already)
	wantEnded("Put", noon, "data of put as ended")
	for range 2 {
		want(t, "DeleteFamily", s.DeleteFamily(t.Context(), "f"), nil)
	}
	wantLive(t, s, noon, refresh.Hash("by family"), false)
	want(t, "DeleteFamily of another kind", s.DeleteFamily(t.Context(), "g", refresh), nil)
	wantEnded("DeleteFamily", noon, "data of by family", "data of put as ended")
	want(t, "DeleteFamily of the kind", s.DeleteFamily(t.Context(), "g", storage.KindStatus), nil)
	for range 2 {
		want(t, "Delete", s.Delete(t.Context(), storage.KindStatus.Hash("by key"), storage.KindStatus.Hash("missing")), nil)
	}
	want(t, "Spend", s.Spend(t.Context(), noon, []storage.Key{storage.KindStatus.Hash("spent")}), nil)
	wantEnded("everything", noon, "data of by family", "data of by key", "data of by kind", "data of put as ended", "data of spent")
	wantLive(t, s, noon, storage.KindStatus.Hash("live"), true)
	want(t, "Put of one that has ended", s.Put(t.Context(), noon, status("by key", "h")), storage.ErrExists)
	wantEnded("they expired", noon.Add(time.Hour))
}

func findEndedLimit(t *testing.T, s storage.Tickets) {
	for i := range 5 {
		ended := ticket(storage.KindStatus, fmt.Sprint(i))
		ended.Spent = noon
		put(t, s, ended)
	}
	if found, err := s.FindEnded(t.Context(), noon, 3); err != nil || len(found) != 3 {
		t.Errorf("%d tickets (%v), want 3", len(found), err)
	}
}

func setExpires(t *testing.T, s storage.Tickets) {
	a := inFamily("f", ofGrant("g", ticket(refresh, "a")))
	put(t, s, a, ticket(refresh, "b"), ticket(codes, "a"))
	set := func(key storage.Key, at, expires time.Time) error { return s.SetExpires(t.Context(), at, key, expires) }
	a.Expires = noon.Add(3 * time.Hour)
	want(t, "SetExpires", set(a.Key, noon, a.Expires), nil)
	wantTicket(t, s, a)
	wantLive(t, s, noon.Add(2*time.Hour), refresh.Hash("b"), false)
	wantLive(t, s, noon.Add(2*time.Hour), codes.Hash("a"), false)
	want(t, "SetExpires to an earlier time", set(a.Key, noon.Add(2*time.Hour), noon.Add(2*time.Hour+time.Minute)), nil)
	wantLive(t, s, noon.Add(2*time.Hour+time.Minute), a.Key, false)
	want(t, "SetExpires of an expired ticket", set(a.Key, noon.Add(4*time.Hour), noon.Add(5*time.Hour)), storage.ErrNotFound)
	want(t, "SetExpires of a ticket that does not exist", set(refresh.Hash("c"), noon, noon.Add(time.Hour)), storage.ErrNotFound)
	want(t, "Spend", s.Spend(t.Context(), noon, []storage.Key{refresh.Hash("b")}), nil)
	want(t, "SetExpires of a spent ticket", set(refresh.Hash("b"), noon, noon.Add(2*time.Hour)), storage.ErrSpent)
	want(t, "DeleteFamily", s.DeleteFamily(t.Context(), "f"), nil)
	want(t, "SetExpires of a deleted ticket", set(a.Key, noon, noon.Add(time.Hour)), storage.ErrNotFound)
}

func put(t *testing.T, s storage.Tickets, tickets ...storage.Ticket) {
	t.Helper()
	if err := s.Put(t.Context(), noon, tickets...); err != nil {
		t.Fatalf("Put: %v", err)
	}
}

func want(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

func wantLive(t *testing.T, s storage.Tickets, now time.Time, key storage.Key, live bool) {
	t.Helper()
	_, err := s.Get(t.Context(), now, key)
	if live && err != nil {
		t.Errorf("Get %s: %v, want the ticket", key.Kind, err)
	}
	if !live && !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get %s: error %v, want ErrNotFound", key.Kind, err)
	}
}

func wantTicket(t *testing.T, s storage.Tickets, want storage.Ticket) {
	t.Helper()
	got, err := s.Get(t.Context(), noon, want.Key)
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("Get (-want +got):\n%s", diff)
	}
}

func getReturnsWhatPutStored(t *testing.T, s storage.Tickets) {
	full := storage.Ticket{
		Key: refresh.Hash("full"), Grant: "grant-1", Family: "family-1", Data: []byte("\x00\xff'\"data"),
		Expires: noon.Add(90 * time.Minute).Add(123 * time.Millisecond),
	}
	bare := storage.Ticket{Key: refresh.Hash("bare"), Expires: noon.Add(time.Millisecond)}
	put(t, s, full, bare)
	wantTicket(t, s, full)
	wantTicket(t, s, bare)
}

func getNotFound(t *testing.T, s storage.Tickets) {
	wantLive(t, s, noon, codes.Hash("missing"), false)
}

func getAll(t *testing.T, s storage.Tickets) {
	var keys []storage.Key
	want := map[storage.Key]storage.Ticket{}
	for i := range 40 { // more than a store may query at once
		c := ticket(codes, fmt.Sprint("a", i))
		if i%5 == 4 {
			c.Expires = noon // has expired
		}
		put(t, s, c)
		if i%2 == 1 {
			keys = append(keys, c.Key, codes.Hash(fmt.Sprint("missing", i)), storage.Key{Kind: refresh, ID: c.ID})
			if got, err := s.Get(t.Context(), noon, c.Key); err == nil {
				want[c.Key] = got
			}
		}
	}
	found, err := s.GetAll(t.Context(), noon, keys...)
	if err != nil {
		t.Fatal(err)
	}
	got := map[storage.Key]storage.Ticket{}
	for _, c := range found {
		got[c.Key] = c
	}
	if diff := cmp.Diff(want, got); diff != "" || len(found) != len(got) || len(want) != 16 {
		t.Errorf("GetAll returns %d tickets (-want +got):\n%s", len(found), diff)
	}
	if found, err := s.GetAll(t.Context(), noon); err != nil || len(found) > 0 {
		t.Errorf("GetAll without keys returns %v, %v", found, err)
	}
}

func kindsAreSeparate(t *testing.T, s storage.Tickets) {
	c := ticket(codes, "the same secret")
	put(t, s, c)
	wantLive(t, s, noon, refresh.Hash("the same secret"), false)
	wantLive(t, s, noon, storage.Key{Kind: refresh, ID: c.ID}, false)
	want(t, "Spend of a code as a refresh token", s.Spend(t.Context(), noon, []storage.Key{{Kind: refresh, ID: c.ID}}), storage.ErrNotFound)
	if codes.Hash("x").ID == refresh.Hash("x").ID {
		t.Error("the same secret has the same hash in two kinds")
	}
}

func returnedTicketIsCopy(t *testing.T, s storage.Tickets) {
	c := ticket(codes, "a")
	put(t, s, c)
	got, err := s.Get(t.Context(), noon, c.Key)
	if err != nil {
		t.Fatal(err)
	}
	got.Data[0] = 'X'
	wantTicket(t, s, c)
}

func expiryIsAComparison(t *testing.T, s storage.Tickets) {
	c := inFamily("f", ticket(codes, "a"))
	put(t, s, c)
	before, at := c.Expires.Add(-time.Millisecond), c.Expires
	wantLive(t, s, before, c.Key, true)
	wantLive(t, s, at, c.Key, false)
	for now, n := range map[time.Time]int{before: 1, at: 0} {
		found, err := s.FindFamily(t.Context(), now, "f", codes, 10)
		if err != nil || len(found) != n {
			t.Errorf("FindFamily %v before expiry: %d tickets, %v; want %d", c.Expires.Sub(now), len(found), err, n)
		}
	}
	want(t, "Put before expiry", s.Put(t.Context(), before, c), storage.ErrExists)
	want(t, "Spend at expiry", s.Spend(t.Context(), at, []storage.Key{c.Key}), storage.ErrNotFound)
	want(t, "Spend before expiry", s.Spend(t.Context(), before, []storage.Key{c.Key}), nil)
	want(t, "Spend at expiry of a spent ticket", s.Spend(t.Context(), at, []storage.Key{c.Key}), storage.ErrNotFound)
}

func putIsInsertOnly(t *testing.T, s storage.Tickets) {
	c := ticket(codes, "a")
	put(t, s, c)
	other := c
	other.Data = []byte("other")
	want(t, "Put of a live key", s.Put(t.Context(), noon, other), storage.ErrExists)
	wantTicket(t, s, c)
	want(t, "Spend", s.Spend(t.Context(), noon, []storage.Key{c.Key}), nil)
	want(t, "Put of a spent key", s.Put(t.Context(), noon, other), storage.ErrExists)
	c.Spent = noon
	wantTicket(t, s, c)
}

func putSpent(t *testing.T, s storage.Tickets) {
	used := ticket(codes, "a")
	used.Data, used.Spent = nil, noon
	token := inFamily("f", ticket(refresh, "a"))
	want(t, "Put", s.Put(t.Context(), noon, used, token), nil)
	want(t, "DeleteFamily", s.DeleteFamily(t.Context(), "f"), nil)
	want(t, "Spend", s.Spend(t.Context(), noon, []storage.Key{used.Key}), storage.ErrSpent)
	want(t, "Put again", s.Put(t.Context(), noon, used, token), storage.ErrExists)
	wantTicket(t, s, used)
	wantLive(t, s, noon, token.Key, false)
}

func putReplacesExpired(t *testing.T, s storage.Tickets) {
	old := ofGrant("old grant", inFamily("old family", ticket(codes, "a")))
	old.Expires = noon.Add(-time.Second)
	if err := s.Put(t.Context(), noon.Add(-time.Hour), old); err != nil {
		t.Fatal(err)
	}
	want(t, "Spend", s.Spend(t.Context(), noon.Add(-time.Minute), []storage.Key{old.Key}), nil)
	c := ticket(codes, "a")
	put(t, s, c)
	wantTicket(t, s, c)
}

func putAllOrNone(t *testing.T, s storage.Tickets) {
	a, b := ticket(codes, "a"), ticket(codes, "b")
	put(t, s, b)
	want(t, "Put", s.Put(t.Context(), noon, a, b), storage.ErrExists)
	wantLive(t, s, noon, a.Key, false)
	want(t, "Put of one key twice", s.Put(t.Context(), noon, a, a), storage.ErrExists)
	wantLive(t, s, noon, a.Key, false)
}

func dataIsBounded(t *testing.T, s storage.Tickets) {
	c := ticket(codes, "a")
	c.Data = make([]byte, storage.MaxData)
	for i := range c.Data {
		c.Data[i] = byte(i)
	}
	put(t, s, c)
	wantTicket(t, s, c)
	c = ticket(codes, "b")
	c.Data = make([]byte, storage.MaxData+1)
	if err := s.Put(t.Context(), noon, c); err == nil {
		t.Error("Put accepts more than MaxData bytes")
	}
}

func spendMarks(t *testing.T, s storage.Tickets) {
	old, next := ticket(refresh, "old"), ticket(refresh, "next")
	put(t, s, old)
	want(t, "Spend", s.Spend(t.Context(), noon.Add(7*time.Millisecond), []storage.Key{old.Key}, next), nil)
	old.Spent = noon.Add(7 * time.Millisecond)
	wantTicket(t, s, old)
	wantTicket(t, s, next)
}

func spendTwice(t *testing.T, s storage.Tickets) {
	old, next, late := ticket(refresh, "old"), ticket(refresh, "next"), ticket(refresh, "late")
	put(t, s, old)
	want(t, "first Spend", s.Spend(t.Context(), noon, []storage.Key{old.Key}, next), nil)
	want(t, "second Spend", s.Spend(t.Context(), noon.Add(time.Second), []storage.Key{old.Key}, late), storage.ErrSpent)
	wantLive(t, s, noon, late.Key, false)
	old.Spent = noon
	wantTicket(t, s, old)
}

func spendNotFound(t *testing.T, s storage.Tickets) {
	expired, deleted, next := ticket(codes, "expired"), ticket(codes, "deleted"), ticket(refresh, "next")
	expired.Expires = noon.Add(time.Second)
	put(t, s, expired, deleted)
	want(t, "Delete", s.Delete(t.Context(), deleted.Key), nil)
	for name, key := range map[string]storage.Key{"missing": codes.Hash("x"), "expired": expired.Key, "deleted": deleted.Key} {
		want(t, name, s.Spend(t.Context(), noon.Add(time.Second), []storage.Key{key}, next), storage.ErrNotFound)
	}
	wantLive(t, s, noon, next.Key, false)
}

func spendAllOrNothing(t *testing.T, s storage.Tickets) {
	live, spent, existing, next := ticket(codes, "live"), ticket(codes, "spent"), ticket(refresh, "existing"), ticket(refresh, "next")
	put(t, s, live, spent, existing)
	want(t, "Spend", s.Spend(t.Context(), noon, []storage.Key{spent.Key}), nil)
	for name, c := range map[string]struct {
		spend []storage.Key
		put   []storage.Ticket
		err   error
	}{
		"one of the tickets is spent":       {[]storage.Key{live.Key, spent.Key}, []storage.Ticket{next}, storage.ErrSpent},
		"the first of the tickets is spent": {[]storage.Key{spent.Key, live.Key}, []storage.Ticket{next}, storage.ErrSpent},
		"one of the tickets is missing":     {[]storage.Key{live.Key, codes.Hash("x")}, []storage.Ticket{next}, storage.ErrNotFound},
		"a new ticket exists already":       {[]storage.Key{live.Key}, []storage.Ticket{next, existing}, storage.ErrExists},
	} {
		want(t, name, s.Spend(t.Context(), noon, c.spend, c.put...), c.err)
		wantTicket(t, s, live)
		wantLive(t, s, noon, next.Key, false)
	}
}

func spendNamedTwice(t *testing.T, s storage.Tickets) {
	c := ticket(codes, "a")
	put(t, s, c)
	want(t, "Spend", s.Spend(t.Context(), noon, []storage.Key{c.Key, c.Key}), storage.ErrSpent)
	wantTicket(t, s, c)
}

func deleteRemoves(t *testing.T, s storage.Tickets) {
	a, b, c := ticket(codes, "a"), ticket(codes, "b"), ticket(codes, "c")
	put(t, s, a, b, c)
	want(t, "Delete", s.Delete(t.Context(), a.Key, codes.Hash("x"), b.Key), nil)
	want(t, "Delete of nothing", s.Delete(t.Context()), nil)
	wantLive(t, s, noon, a.Key, false)
	wantLive(t, s, noon, b.Key, false)
	wantLive(t, s, noon, c.Key, true)
	put(t, s, a)
}

func deleteFamily(t *testing.T, s storage.Tickets) {
	a, b := inFamily("f", ticket(codes, "a")), inFamily("f", ticket(refresh, "b"))
	other, none := inFamily("g", ticket(codes, "other")), ticket(codes, "none")
	put(t, s, a, b, other, none)
	want(t, "Spend", s.Spend(t.Context(), noon, []storage.Key{b.Key}), nil)
	want(t, "DeleteFamily", s.DeleteFamily(t.Context(), "f"), nil)
	wantLive(t, s, noon, a.Key, false)
	wantLive(t, s, noon, b.Key, false)
	wantLive(t, s, noon, other.Key, true)
	wantLive(t, s, noon, none.Key, true)
	want(t, "DeleteFamily of an empty family", s.DeleteFamily(t.Context(), "f"), nil)
}

func deleteDescendants(t *testing.T, s storage.Tickets) {
	child := storage.Descendant("f", "a")
	grandchild := storage.Descendant(child, "B")
	families := map[string]storage.Ticket{}
	for _, family := range []string{"f", child, grandchild, storage.Descendant("f", "aa"), "f ", "fa", "F", storage.Descendant("g", "a")} {
		families[family] = inFamily(family, ticket(refresh, family))
		put(t, s, families[family])
	}
	wantLeft := func(after string, left ...string) {
		t.Helper()
		for family, ticket := range families {
			_, err := s.Get(t.Context(), noon, ticket.Key)
			if live := err == nil; live != slices.Contains(left, family) {
				t.Errorf("after %q ended, a ticket of %q: %v", after, family, err)
			}
		}
	}
	want(t, "DeleteFamily of a child", s.DeleteFamily(t.Context(), child), nil)
	wantLeft(child, "f", storage.Descendant("f", "aa"), "f ", "fa", "F", storage.Descendant("g", "a"))
	want(t, "DeleteFamily", s.DeleteFamily(t.Context(), "f"), nil)
	wantLeft("f", "f ", "fa", "F", storage.Descendant("g", "a"))
}

func deleteFamilyKinds(t *testing.T, s storage.Tickets) {
	a, b, c := inFamily("f", ticket(codes, "a")), inFamily("f", ticket(refresh, "b")), inFamily("f", ticket(sessions, "c"))
	put(t, s, a, b, c)
	want(t, "DeleteFamily", s.DeleteFamily(t.Context(), "f", codes, sessions), nil)
	wantLive(t, s, noon, a.Key, false)
	wantLive(t, s, noon, b.Key, true)
	wantLive(t, s, noon, c.Key, false)
}

func emptyFamily(t *testing.T, s storage.Tickets) {
	c := ticket(codes, "a")
	put(t, s, c)
	want(t, "DeleteFamily", s.DeleteFamily(t.Context(), ""), nil)
	want(t, "DeleteFamily of a kind", s.DeleteFamily(t.Context(), "", codes), nil)
	wantLive(t, s, noon, c.Key, true)
	found, err := s.FindFamily(t.Context(), noon, "", codes, 10)
	if err != nil || len(found) != 0 {
		t.Errorf("FindFamily: %d tickets, %v; want none", len(found), err)
	}
}

func findFamily(t *testing.T, s storage.Tickets) {
	var all []storage.Ticket
	for i := range 5 {
		c := inFamily("f", ticket(sessions, fmt.Sprint(i)))
		c.Expires = noon.Add(time.Duration(i) * time.Minute) // the first has expired
		all = append(all, c)
	}
	put(t, s, all...)
	put(t, s, inFamily("f", ticket(codes, "of another kind")), inFamily("g", ticket(sessions, "of another family")))
	want(t, "Spend", s.Spend(t.Context(), noon, []storage.Key{all[3].Key}), nil)
	all[3].Spent = noon
	for limit, ordered := range map[int][]storage.Ticket{
		10: {all[4], all[3], all[2], all[1]},
		2:  {all[4], all[3]},
		0:  nil,
	} {
		found, err := s.FindFamily(t.Context(), noon, "f", sessions, limit)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(ordered, found, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("FindFamily, at most %d (-want +got):\n%s", limit, diff)
		}
	}
}

package storagetest

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage"
)

func accountData(t *testing.T, s Database) {
	user := newUser("u1", "alice", "alice@example.com")
	want(t, "CreateUser", s.CreateUser(t.Context(), user), nil)
	wantEqual(t, "account data of a new user", identity.AccountData{}, must(s.User(t.Context(), "u1"))(t).Account)
	data := identity.AccountData{
		Events:      []identity.SecurityEvent{{Kind: identity.EventNewDevice, At: noon, Browser: "Firefox on Linux", Remote: netip.MustParseAddr("192.0.2.1"), Count: 2}},
		FormerNames: []identity.FormerName{{Name: "al", Until: noon.Add(time.Hour)}},
		DeleteAfter: noon.Add(24 * time.Hour),
		LockedAt:    noon,
	}
	want(t, "UpdateUser", s.UpdateUser(t.Context(), "u1", func(u *identity.User) error {
		u.Account = data
		return nil
	}), nil)
	comparable := func(d identity.AccountData) string { // netip.Addr cannot be compared field by field
		u := identity.User{Account: d}
		return must(u.EncodeAccountData())(t)
	}
	wantEqual(t, "account data", comparable(data), comparable(must(s.User(t.Context(), "u1"))(t).Account))
	cached := must(s.CachedUser(t.Context(), "u1"))(t)
	data.ForMemory()
	wantEqual(t, "account data of a CachedUser", comparable(data), comparable(cached.Account))
	wantEqual(t, "UserValidity of an account that is being deleted", false, must(s.UserValidity(t.Context(), "u1"))(t).Active)
}

func formerNames(t *testing.T, s Database) {
	want(t, "CreateUser", s.CreateUser(t.Context(), newUser("u1", "alice", "alice@example.com")), nil)
	rename := func(name string, former ...identity.FormerName) {
		t.Helper()
		want(t, "UpdateUser", s.UpdateUser(t.Context(), "u1", func(u *identity.User) error {
			u.Username, u.Account.FormerNames = name, former
			return nil
		}), nil)
	}
	rename("alison", identity.FormerName{Name: "Alice", Until: noon.Add(time.Hour)})
	wantEqual(t, "user with the former name", "u1", must(s.UserByIdentifier(t.Context(), "alice"))(t).ID)
	want(t, "CreateUser with a reserved name", s.CreateUser(t.Context(), newUser("u2", "alice", "")), identity.ErrIdentifierTaken)
	wantEqual(t, "due before the name is free", 0, len(must(s.DueUsers(t.Context(), noon, 10))(t)))
	wantEqual(t, "due when the name is free", []string{"u1"}, must(s.DueUsers(t.Context(), noon.Add(time.Hour), 10))(t))
	rename("alison")
	wantEqual(t, "due after the name was dropped", 0, len(must(s.DueUsers(t.Context(), noon.Add(time.Hour), 10))(t)))
	want(t, "CreateUser with a dropped name", s.CreateUser(t.Context(), newUser("u2", "alice", "")), nil)
}

func eraseUser(t *testing.T, s Database) {
	for i, after := range []time.Duration{2 * time.Hour, time.Hour, 0} {
		user := newUser(fmt.Sprintf("u%d", i), fmt.Sprintf("user%d", i), "")
		user.Administrator = true
		if after > 0 {
			user.Account.DeleteAfter = noon.Add(after)
		}
		want(t, "CreateUser", s.CreateUser(t.Context(), user), nil)
	}
	wantEqual(t, "HasAdministrator except the one who is not being deleted", false, must(s.HasAdministrator(t.Context(), "u2"))(t))
	wantEqual(t, "HasAdministrator", true, must(s.HasAdministrator(t.Context(), "u1"))(t))
	wantEqual(t, "due users", []string{"u1", "u0"}, must(s.DueUsers(t.Context(), noon.Add(3*time.Hour), 10))(t))
	wantEqual(t, "the first due user", []string{"u1"}, must(s.DueUsers(t.Context(), noon.Add(3*time.Hour), 1))(t))
	wantEqual(t, "due after an hour", []string{"u1"}, must(s.DueUsers(t.Context(), noon.Add(time.Hour), 10))(t))
	want(t, "EraseUser before it is due", s.EraseUser(t.Context(), noon.Add(time.Hour), "u0"), storage.ErrNotFound)
	want(t, "EraseUser of a user who did not ask for it", s.EraseUser(t.Context(), noon.Add(time.Hour), "u2"), storage.ErrNotFound)
	want(t, "EraseUser", s.EraseUser(t.Context(), noon.Add(time.Hour), "u1"), nil)
	want(t, "EraseUser again", s.EraseUser(t.Context(), noon.Add(time.Hour), "u1"), storage.ErrNotFound)
	for id, wanted := range map[string]error{"u0": nil, "u1": storage.ErrNotFound, "u2": nil} {
		_, err := s.User(t.Context(), id)
		want(t, "User "+id, err, wanted)
	}
	want(t, "the name of an erased user is free", s.CreateUser(t.Context(), newUser("u9", "user1", "")), nil)
}

func raceErase(t *testing.T, s Database) {
	for i := range 10 {
		id := fmt.Sprintf("u%d", i)
		user := newUser(id, "user"+id, "")
		user.Account.DeleteAfter = noon
		want(t, "CreateUser", s.CreateUser(t.Context(), user), nil)
		var erased, canceled error
		var callers sync.WaitGroup
		callers.Go(func() { erased = s.EraseUser(t.Context(), noon, id) })
		callers.Go(func() {
			canceled = s.UpdateUser(t.Context(), id, func(u *identity.User) error {
				u.Account.DeleteAfter = time.Time{}
				return nil
			})
		})
		callers.Wait()
		if (erased == nil) == (canceled == nil) {
			t.Fatalf("EraseUser: %v, UpdateUser: %v; exactly one must succeed", erased, canceled)
		}
		_, err := s.User(t.Context(), id)
		if (erased == nil) != errors.Is(err, storage.ErrNotFound) {
			t.Fatalf("EraseUser: %v, User: %v", erased, err)
		}
	}
}

func uses(t *testing.T, s Database) {
	want(t, "CreateUser", s.CreateUser(t.Context(), newUser("u1", "alice", "")), nil)
	here, there := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	use := func(owner, name string, at time.Duration, from netip.Addr, lives time.Duration) storage.Use {
		return storage.Use{Owner: owner, Name: name, At: noon.Add(at), Remote: from, Expires: noon.Add(lives)}
	}
	want(t, "RecordUses", s.RecordUses(t.Context(), use("u1", "b", time.Minute, there, time.Hour), use("u1", "a", 0, here, time.Hour), use("u2", "a", 0, netip.Addr{}, time.Hour)), nil)
	want(t, "RecordUses of an earlier and a later use", s.RecordUses(t.Context(), use("u1", "b", 0, here, time.Hour), use("u1", "a", time.Minute, there, 2*time.Hour)), nil)
	text := func(at time.Duration, owner string) (lines []string) {
		for _, u := range must(s.UsesOf(t.Context(), noon.Add(at), owner))(t) {
			lines = append(lines, fmt.Sprint(u.Owner, " ", u.Name, " ", u.At.Sub(noon), " ", u.Remote, " ", u.Expires.Sub(noon)))
		}
		return lines
	}
	wantEqual(t, "uses", []string{"u1 a 1m0s 2001:db8::1 2h0m0s", "u1 b 1m0s 2001:db8::1 1h0m0s"}, text(0, "u1"))
	wantEqual(t, "uses of another user", []string{"u2 a 0s invalid IP 1h0m0s"}, text(0, "u2"))
	wantEqual(t, "uses after one has expired", []string{"u1 a 1m0s 2001:db8::1 2h0m0s"}, text(time.Hour, "u1"))
	must(s.Reclaim(t.Context(), noon.Add(time.Hour)))(t)
	wantEqual(t, "uses after Reclaim", []string{"u1 a 1m0s 2001:db8::1 2h0m0s"}, text(0, "u1"))
	want(t, "DeleteUser", s.DeleteUser(t.Context(), "u1"), nil)
	wantEqual(t, "uses of a deleted user", []string(nil), text(0, "u1"))
}

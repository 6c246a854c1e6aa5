//go:build !race

package sqldb

import (
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/memory"
)

// These tests repeat many calls, one after the other.

// For any sequence of calls, SQLite and the maps return the same results.
func TestSQLiteBehavesLikeMemory(t *testing.T) {
	kinds := []storage.Kind{"code", "refresh"}
	dir := t.TempDir()
	rapid.Check(t, func(r *rapid.T) {
		sqlite, err := Open(t.Context(), copyTemplate(r, dir), Config{MasterKey: testMasterKey})
		if err != nil {
			r.Fatal(err)
		}
		defer sqlite.Close()
		plain := memory.New()
		now := testNow
		key := rapid.Custom(func(r *rapid.T) storage.Key {
			return rapid.SampledFrom(kinds).Draw(r, "kind").Hash(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(r, "secret"))
		})
		family := rapid.SampledFrom([]string{"", "f", "g"})
		ticket := rapid.Custom(func(r *rapid.T) storage.Ticket {
			return storage.Ticket{
				Key: key.Draw(r, "key"), Family: family.Draw(r, "family"), Grant: family.Draw(r, "grant"),
				Data:    rapid.SliceOfN(rapid.Byte(), 0, 4).Draw(r, "data"),
				Expires: now.Add(time.Duration(rapid.IntRange(-1, 5).Draw(r, "expires")) * time.Millisecond),
			}
		})
		same := func(what string, a, b any) {
			if a, b := fmt.Sprintf("%+v", a), fmt.Sprintf("%+v", b); a != b {
				r.Fatalf("%s:\nmemory %s\nsqlite %s", what, a, b)
			}
		}
		r.Repeat(map[string]func(*rapid.T){
			"time": func(r *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 3).Draw(r, "ms")) * time.Millisecond)
			},
			"Put": func(r *rapid.T) {
				tickets := rapid.SliceOfN(ticket, 0, 3).Draw(r, "tickets")
				same("Put", plain.Put(t.Context(), now, tickets...), sqlite.Put(t.Context(), now, tickets...))
			},
			"Spend": func(r *rapid.T) {
				keys, tickets := rapid.SliceOfN(key, 0, 3).Draw(r, "keys"), rapid.SliceOfN(ticket, 0, 2).Draw(r, "tickets")
				same("Spend", plain.Spend(t.Context(), now, keys, tickets...), sqlite.Spend(t.Context(), now, keys, tickets...))
			},
			"Delete": func(r *rapid.T) {
				keys := rapid.SliceOfN(key, 0, 2).Draw(r, "keys")
				same("Delete", plain.Delete(t.Context(), keys...), sqlite.Delete(t.Context(), keys...))
			},
			"DeleteFamily": func(r *rapid.T) {
				f, k := family.Draw(r, "family"), rapid.SliceOfN(rapid.SampledFrom(kinds), 0, 2).Draw(r, "kinds")
				same("DeleteFamily", plain.DeleteFamily(t.Context(), f, k...), sqlite.DeleteFamily(t.Context(), f, k...))
			},
			"DeleteGrant": func(r *rapid.T) {
				g := family.Draw(r, "grant")
				same("DeleteGrant", plain.DeleteGrant(t.Context(), g), sqlite.DeleteGrant(t.Context(), g))
			},
			"Reclaim": func(r *rapid.T) {
				a, errA := plain.Reclaim(t.Context(), now)
				b, errB := sqlite.Reclaim(t.Context(), now)
				same("Reclaim", []any{a, errA}, []any{b, errB})
			},
			"": func(r *rapid.T) {
				for _, kind := range kinds {
					for _, secret := range []string{"a", "b", "c"} {
						a, errA := plain.Get(t.Context(), now, kind.Hash(secret))
						b, errB := sqlite.Get(t.Context(), now, kind.Hash(secret))
						same("Get", []any{a, errA}, []any{b, errB})
					}
					for _, f := range []string{"", "f", "g"} {
						a, errA := plain.FindFamily(t.Context(), now, f, kind, 2)
						b, errB := sqlite.FindFamily(t.Context(), now, f, kind, 2)
						same("FindFamily", []any{a, errA}, []any{b, errB})
					}
				}
			},
		})
	})
}

func TestTheMemoryForUsersIsBounded(t *testing.T) {
	m := newUserMemory(&sqlite{}, slog.Default())
	m.polled.Store(int64(m.clock()))
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return int64(stats.HeapAlloc)
	}
	small := `{"name": "Ada Lovelace", "email": "ada@example.org", "email_verified": true, "locale": "en"}`
	for _, c := range []struct {
		name, claims string
	}{
		{"few claims", small},
		{"no claims", `{}`},
		{"many claims", `{"a": ["` + strings.Repeat(`x", "`, 200) + `"], "b": {` + strings.TrimSuffix(strings.Repeat(`"k": {"c": 1}, `, 100), ", ") + `}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			m.clear()
			before := heap()
			for i := range 20_000 {
				id := fmt.Sprintf("user-%017d", i)
				kept := newKeptUser(identity.User{ID: id, Username: id, PasswordHash: strings.Clone(id), Kept: []string{id}}, strings.Clone(c.claims))
				if _, err := kept.claims(); err != nil {
					t.Fatal(err)
				}
				m.put(m.start(), kept)
			}
			used, estimated := heap()-before, 0
			for _, generation := range []map[string]*keptUser{m.newer, m.older} {
				for _, kept := range generation {
					estimated += kept.bytes
				}
			}
			t.Logf("%d users, estimated at %d bytes, use %d", len(m.newer)+len(m.older), estimated, used)
			if estimated > userMemoryBytes || used > userMemoryBytes {
				t.Errorf("the limit is %d bytes", userMemoryBytes)
			}
			if len(m.older) == 0 {
				t.Error("the test stores too few users")
			}
		})
	}
	huge := newKeptUser(identity.User{ID: "huge"}, `{"a": "`+strings.Repeat("x", userMemoryBytes/10)+`"}`)
	m.put(m.start(), huge)
	if m.find("huge") != nil || len(m.older) == 0 {
		t.Error("a huge user is kept, instead of the others")
	}
	runtime.KeepAlive(m)
}

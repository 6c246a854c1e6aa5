package sqldb

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

const memoryKind storage.Kind = "refresh_token"

// twoStores are two programs with the same file, such as a server and a command.
func twoStores(t *testing.T) [2]*Store {
	t.Helper()
	url := sqliteDatabase(t)
	return [2]*Store{openTest(t, url), openTest(t, url)}
}

func memoryOf(s *Store) *rowMemory { return s.database.(*sqlite).memory }

// remembers reports whether a store would answer without a query.
func remembers(s *Store, key storage.Key) bool {
	m := memoryOf(s)
	version, ok := m.begin()
	if !ok {
		return false
	}
	_, ok = m.tickets(&version, time.Now().UnixMilli(), []storage.Key{key})
	return ok
}

func mustPut(t testing.TB, s *Store, tickets ...storage.Ticket) {
	t.Helper()
	if err := s.Put(context.Background(), time.Now(), tickets...); err != nil {
		t.Fatal(err)
	}
}

func memoryTicket(name, family, grant string) storage.Ticket {
	return storage.Ticket{Key: memoryKind.Hash(name), Family: family, Grant: grant, Data: []byte("data of " + name), Expires: time.Now().Add(time.Hour)}
}

// What any program changes is seen by all at once, although the ticket is in memory.
func TestRowsInMemoryEndWithTheirRows(t *testing.T) {
	grant := func(t *testing.T, s *Store) string {
		g, err := s.UpdateGrant(t.Context(), "user", "client", func(g *record.Grant) error {
			g.Scope = oauth.Scope{"a"}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return g.ID
	}
	for name, change := range map[string]func(ctx context.Context, s *Store, ticket storage.Ticket) error{
		"Delete": func(ctx context.Context, s *Store, ticket storage.Ticket) error { return s.Delete(ctx, ticket.Key) },
		"DeleteFamily": func(ctx context.Context, s *Store, ticket storage.Ticket) error {
			return s.DeleteFamily(ctx, ticket.Family)
		},
		"DeleteGrant": func(ctx context.Context, s *Store, ticket storage.Ticket) error {
			return s.DeleteGrant(ctx, ticket.Grant)
		},
		"Spend": func(ctx context.Context, s *Store, ticket storage.Ticket) error {
			return s.Spend(ctx, time.Now(), []storage.Key{ticket.Key})
		},
		"SetExpires": func(ctx context.Context, s *Store, ticket storage.Ticket) error {
			return s.SetExpires(ctx, time.Now(), ticket.Key, time.Now().Add(time.Millisecond))
		},
		"an operator with SQL": func(ctx context.Context, s *Store, _ storage.Ticket) error {
			_, err := s.database.write().ExecContext(ctx, `DELETE FROM tickets`)
			return err
		},
	} {
		for which, who := range []string{"the same program", "another program"} {
			t.Run(name+" by "+who, func(t *testing.T) {
				s := twoStores(t)
				reader, writer := s[0], s[which]
				ticket := memoryTicket("x", "family", grant(t, reader))
				mustPut(t, reader, ticket)
				for range 2 {
					if _, err := reader.Get(t.Context(), time.Now(), ticket.Key); err != nil {
						t.Fatal(err)
					}
				}
				if !remembers(reader, ticket.Key) {
					t.Fatal("the ticket is not in memory, so this tests nothing")
				}
				if err := change(t.Context(), writer, ticket); err != nil {
					t.Fatal(err)
				}
				got, err := reader.Get(t.Context(), time.Now().Add(time.Second), ticket.Key)
				if err == nil && got.Spent.IsZero() {
					t.Error("the ticket is as it was before the change")
				} else if err != nil && !errors.Is(err, storage.ErrNotFound) {
					t.Error(err)
				}
			})
		}
	}
}

// A ticket that was missing, such as a revocation, is found when any program has stored it.
func TestMissingRowsInMemoryAppear(t *testing.T) {
	for which := range 2 {
		s := twoStores(t)
		ticket := memoryTicket("x", "", "")
		for range 2 {
			if _, err := s[0].Get(t.Context(), time.Now(), ticket.Key); !errors.Is(err, storage.ErrNotFound) {
				t.Fatal(err)
			}
		}
		if !remembers(s[0], ticket.Key) {
			t.Fatal("that there is none is not in memory, so this tests nothing")
		}
		mustPut(t, s[which], ticket)
		if _, err := s[0].Get(t.Context(), time.Now(), ticket.Key); err != nil {
			t.Error(err)
		}
	}
}

// A grant that another program has withdrawn or extended is seen at once.
func TestGrantsInMemoryEndWithTheirRows(t *testing.T) {
	s := twoStores(t)
	extend := func(s *Store, scope ...string) *record.Grant {
		g, err := s.UpdateGrant(t.Context(), "user", "client", func(g *record.Grant) error {
			g.Scope = scope
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	extend(s[0], "a")
	for which := range 2 {
		for range 2 {
			if _, err := s[0].Grant(t.Context(), "user", "client"); err != nil {
				t.Fatal(err)
			}
		}
		want := extend(s[which], "a", fmt.Sprint(which))
		for range 3 {
			g, err := s[0].Grant(t.Context(), "user", "client")
			if err != nil || g.Scope.String() != want.Scope.String() {
				t.Fatalf("the grant is %v, %v", g, err)
			}
			g.Scope[0] = "changed by a caller"
		}
	}
	session := memoryTicket("session", "", "")
	mustPut(t, s[0], session)
	for which := range 2 {
		g := extend(s[0], "a")
		for _, deleted := range []bool{false, true} {
			for range 2 { // into memory
				_, _ = s[0].Grant(t.Context(), "user", "client")
				_, _ = s[0].Get(t.Context(), time.Now(), session.Key)
			}
			if deleted {
				if err := s[which].DeleteGrant(t.Context(), g.ID); err != nil {
					t.Fatal(err)
				}
			}
			found, err := s[0].PutAndFind(t.Context(), time.Now(), record.Find{Grant: g.ID, Key: session.Key}, memoryTicket(fmt.Sprint("code", which, deleted), "", ""))
			if err != nil || found.Grant == deleted || found.Ticket == nil {
				t.Errorf("deleted: %v, found: %+v, %v", deleted, found, err)
			}
		}
		if g, err := s[0].Grant(t.Context(), "user", "client"); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("the deleted grant is %v, %v", g, err)
		}
	}
}

// Writes of this program leave other rows in memory; otherwise the memory would help nobody.
func TestWritesOfOthersLeaveRowsInMemory(t *testing.T) {
	s := openTest(t, sqliteDatabase(t))
	ticket := memoryTicket("x", "family", "")
	mustPut(t, s, ticket, memoryTicket("y", "", ""))
	if _, err := s.Get(t.Context(), time.Now(), ticket.Key); err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, memoryTicket("z", "family", ""))
	if err := s.Spend(t.Context(), time.Now(), []storage.Key{memoryKind.Hash("y")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), memoryKind.Hash("z"), memoryKind.Hash("unknown")); err != nil {
		t.Fatal(err)
	}
	if !remembers(s, ticket.Key) {
		t.Error("the ticket is not in memory any more")
	}
	if got, err := s.Get(t.Context(), time.Now(), ticket.Key); err != nil || string(got.Data) != string(ticket.Data) {
		t.Errorf("%v, %v", got, err)
	}
}

// Another program commits after the COMMIT of a batch, before the batch looks at the version.
func TestACommitAfterABatchIsNotTheBatchs(t *testing.T) {
	for _, changed := range []bool{false, true} {
		s := twoStores(t)
		ticket := memoryTicket("x", "", "")
		mustPut(t, s[0], ticket)
		if _, err := s[0].Get(t.Context(), time.Now(), ticket.Key); err != nil {
			t.Fatal(err)
		}
		b := memoryOf(s[0]).beginBatch()
		if changed { // the batch itself
			b.changed = true
			mustPut(t, s[1], memoryTicket("y", "", ""))
		}
		if err := s[1].Delete(t.Context(), ticket.Key); err != nil {
			t.Fatal(err)
		}
		b.end(true)
		if _, err := s[0].Get(t.Context(), time.Now(), ticket.Key); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("the ticket is still there (the batch has changed something: %v): %v", changed, err)
		}
	}
}

// The memory is bounded, whatever is read.
func TestRowsInMemoryAreBounded(t *testing.T) {
	s := openTest(t, sqliteDatabase(t))
	m := memoryOf(s)
	version, ok := m.begin()
	if !ok {
		t.Fatal("the database has no version")
	}
	for i := range 20_000 {
		ticket := memoryTicket(fmt.Sprint(i), "family", "")
		ticket.Data = make([]byte, 1000)
		m.keepTickets(&version, 0, []storage.Key{ticket.Key, memoryKind.Hash(fmt.Sprint("missing", i))}, []storage.Ticket{ticket})
		m.keepGrant(&version, &record.Grant{ID: fmt.Sprint(i), Subject: fmt.Sprint(i), ClientID: "client"})
	}
	if n := m.newer.bytes + m.older.bytes; n > rowMemoryBytes || n < rowMemoryBytes/2 {
		t.Errorf("%d bytes are kept", n)
	}
	if n := len(m.newer.tickets) + len(m.older.tickets); n > rowMemoryBytes/500 {
		t.Errorf("%d tickets are kept", n)
	}
}

// Two programs store, read, and delete; nobody sees a ticket after the deletion has returned.
func TestRowsInMemoryUnderLoad(t *testing.T) {
	s := twoStores(t)
	var working sync.WaitGroup
	for worker := range 8 {
		working.Go(func() {
			ctx := context.Background()
			for round := range 30 {
				name := fmt.Sprint(worker, round)
				ticket := memoryTicket(name, name, "")
				first, second := s[(worker+round)%2], s[(worker+round/2)%2]
				if err := first.Put(ctx, time.Now(), ticket); err != nil {
					t.Error(err)
					return
				}
				for _, reader := range []*Store{s[0], s[1], s[0], s[1]} {
					if _, err := reader.Get(ctx, time.Now(), ticket.Key); err != nil {
						t.Errorf("after Put: %v", err)
					}
				}
				var err error
				if round%3 == 0 {
					err = second.DeleteFamily(ctx, ticket.Family)
				} else {
					err = second.Delete(ctx, ticket.Key)
				}
				if err != nil {
					t.Error(err)
				}
				for _, reader := range s {
					if _, err := reader.Get(ctx, time.Now(), ticket.Key); !errors.Is(err, storage.ErrNotFound) {
						t.Errorf("after the deletion: %v", err)
					}
				}
			}
		})
	}
	working.Wait()
}

package sqldb

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/valetkey/valetkey/internal/pgtest"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// turns counts how often a client sends something after it has received something.
type turns struct {
	net.Conn
	count    *atomic.Int64
	received atomic.Bool
}

func (c *turns) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.received.Store(true)
	return n, err
}

func (c *turns) Write(p []byte) (int, error) {
	if c.received.Swap(false) {
		c.count.Add(1)
	}
	return c.Conn.Write(p)
}

// countTurns replaces the connections of a store by ones that are counted.
func countTurns(t *testing.T, s *Store) *atomic.Int64 {
	t.Helper()
	d := s.database.(*postgreSQL)
	count := &atomic.Int64{}
	config := d.pool.Config()
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		return &turns{Conn: conn, count: count}, err
	}
	config.MaxConns = 1
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	d.db.Close()
	d.pool.Close()
	d.pool, d.db = pool, stdlib.OpenDBFromPool(pool)
	return count
}

// A transaction that spends tickets and stores others, and a query for several tickets, are one
// round trip each, also behind a pooler.
func TestWritesAndReadsTakeOneRoundTrip(t *testing.T) {
	databaseURL := postgreSQLDatabase(t)
	for name, at := range map[string]string{"direct": databaseURL, "PgBouncer": pgtest.PgBouncer(t, databaseURL)} {
		t.Run(name, func(t *testing.T) {
			s := openTest(t, at)
			count := countTurns(t, s)
			ticket := func(name string) storage.Ticket {
				return storage.Ticket{Key: storage.Kind("code").Hash(t.Name() + name), Family: "f", Grant: "g", Expires: testNow.Add(time.Hour)}
			}
			put := func(tickets ...storage.Ticket) {
				t.Helper()
				if err := s.Put(t.Context(), testNow, tickets...); err != nil {
					t.Fatal(err)
				}
			}
			getAll := func() {
				t.Helper()
				found, err := s.GetAll(t.Context(), testNow, ticket("a").Key, ticket("b").Key)
				if err != nil || len(found) != 2 {
					t.Fatalf("GetAll: %v, %v", found, err)
				}
			}
			put(ticket("a"), ticket("b")) // prepares the statements
			getAll()
			for what, f := range map[string]func(){
				"Put of two tickets": func() { put(ticket("c"), ticket("d")) },
				"Spend and Put": func() {
					if err := s.Spend(t.Context(), testNow, []storage.Key{ticket("a").Key}, ticket("e"), ticket("f")); err != nil {
						t.Fatal(err)
					}
				},
				"GetAll": getAll,
				"PutAndFind": func() {
					found, err := s.PutAndFind(t.Context(), testNow, record.Find{Grant: "g", Key: ticket("b").Key}, ticket("g"), ticket("h"))
					if err != nil || found.Grant || found.Ticket == nil {
						t.Fatalf("PutAndFind: %v, %v", found, err)
					}
				},
			} {
				before := count.Load()
				f()
				if n := count.Load() - before; n != 1 {
					t.Errorf("%s takes %d round trips", what, n)
				}
			}
		})
	}
}

package sqldb

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/valetkey/valetkey/internal/pgtest"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
	"github.com/valetkey/valetkey/storage/storagetest"
)

// Two nodes behind PgBouncer in transaction mode. No setting is needed.
func TestRE11_StorePgBouncer(t *testing.T) {
	pooler, err := url.Parse(pgtest.PgBouncer(t, postgreSQLDatabase(t)))
	if err != nil {
		t.Fatal(err)
	}
	storagetest.Store(t, func(t *testing.T) storagetest.Database {
		database, err := url.Parse(postgreSQLDatabase(t))
		if err != nil {
			t.Fatal(err)
		}
		at := *pooler
		at.Path = database.Path
		return openNodes(t, at.String())
	})
}

// Statements stay prepared if there is no pooler.
func TestRE11_PoolerIsRecognized(t *testing.T) {
	databaseURL := pgtest.Database(t)
	if openTest(t, databaseURL).database.(*postgreSQL).pooled.Load() {
		t.Error("PostgreSQL itself is recognized as a pooler")
	}
	pooled := pgtest.PgBouncer(t, databaseURL)
	if !openTest(t, pooled).database.(*postgreSQL).pooled.Load() {
		t.Error("PgBouncer is not recognized as a pooler")
	}
	// Nodes that start at the same time migrate one after the other, too.
	empty := pgtest.PgBouncer(t, pgtest.Database(t))
	var opening sync.WaitGroup
	for range 3 {
		opening.Go(func() { openTest(t, empty) })
	}
	opening.Wait()
}

// A pooler that is added while a node runs is recognized by its errors.
func TestRE11_PoolerThatIsAddedLaterIsRecognized(t *testing.T) {
	pooled := pgtest.PgBouncer(t, pgtest.Database(t))
	s := openTest(t, pooled)
	d := s.database.(*postgreSQL)
	d.pooled.Store(false)
	d.pool.Reset()
	failed := 0
	for i := range 50 {
		ticket := storage.Ticket{Key: storage.Kind("code").Hash(fmt.Sprint(i)), Expires: testNow.Add(time.Hour)}
		if err := s.Put(t.Context(), testNow, ticket); err != nil {
			if !errors.Is(err, storage.ErrUnavailable) {
				t.Errorf("%v", err)
			}
			failed++
		}
	}
	if failed > 10 {
		t.Errorf("%d of 50 writes failed", failed)
	}
}

// within fails the test if f takes longer than max.
func within(t *testing.T, max time.Duration, what string, f func()) {
	t.Helper()
	began := time.Now()
	f()
	if took := time.Since(began); took > max {
		t.Errorf("%s took %v, more than %v", what, took, max)
	}
}

// A connection that goes silent fails within seconds, and no earlier connection is used again.
func TestRE13_SilentConnections(t *testing.T) {
	t.Parallel() // it waits most of the time
	databaseURL := postgreSQLDatabase(t)
	proxy := pgtest.NewProxy(t, pgtest.SocketOf(t, databaseURL))
	s := openTest(t, proxy.Through(t, databaseURL))
	ticket := storage.Ticket{Key: storage.Kind("code").Hash("a"), Expires: testNow.Add(time.Hour)}
	if err := s.Put(t.Context(), testNow, ticket); err != nil {
		t.Fatal(err)
	}
	// Open many connections.
	var reading sync.WaitGroup
	for range 10 {
		reading.Go(func() {
			if _, err := s.Get(t.Context(), testNow, ticket.Key); err != nil {
				t.Error(err)
			}
		})
	}
	reading.Wait()
	proxy.Silence()
	within(t, 5*time.Second, "a read", func() {
		if _, err := s.Get(t.Context(), testNow, ticket.Key); err != nil && !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("Get on a silent connection: %v", err)
		}
	})
	within(t, 2*time.Second, "the next read", func() {
		if _, err := s.Get(t.Context(), testNow, ticket.Key); err != nil {
			t.Errorf("Get after that: %v", err)
		}
	})

	proxy.Freeze()
	for what, f := range map[string]func() error{
		"Put": func() error {
			return s.Put(t.Context(), testNow, storage.Ticket{Key: storage.Kind("code").Hash("b"), Expires: testNow.Add(time.Hour)})
		},
		"Get":     func() error { _, err := s.Get(t.Context(), testNow, ticket.Key); return err },
		"Version": func() error { _, err := s.Version(t.Context()); return err },
		"Client":  func() error { _, err := s.Client(t.Context(), "app"); return err },
	} {
		within(t, 8*time.Second, what, func() {
			if err := f(); !errors.Is(err, storage.ErrUnavailable) {
				t.Errorf("%s on a frozen server: %v", what, err)
			}
		})
	}
	within(t, 3*time.Second, "Ping", func() {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := s.Ping(ctx); err == nil {
			t.Error("Ping succeeds on a frozen server")
		}
	})
	proxy.Thaw()
	for deadline := time.Now().Add(time.Minute); ; {
		_, err := s.Get(t.Context(), testNow, ticket.Key)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the store does not recover: %v", err)
		}
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// A locked row delays the writes of that row, and no others for long.
func TestLockedRowDelaysOnlyItsOwnWrites(t *testing.T) {
	databaseURL := postgreSQLDatabase(t)
	s := openTest(t, databaseURL)
	ticket := func(i int) storage.Ticket {
		return storage.Ticket{Key: storage.Kind("code").Hash(fmt.Sprint(i)), Family: fmt.Sprint("family ", i), Expires: testNow.Add(time.Hour)}
	}
	for i := range 100 {
		if err := s.Put(t.Context(), testNow, ticket(i)); err != nil {
			t.Fatal(err)
		}
	}
	other, err := pgx.Connect(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(context.Background())
	for _, query := range []string{`BEGIN`, `SELECT 1 FROM tickets WHERE family = 'family 0' FOR UPDATE`} {
		if _, err := other.Exec(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	locked := make(chan error, 30)
	for range cap(locked) {
		go func() { locked <- s.Spend(t.Context(), testNow, []storage.Key{ticket(0).Key}) }()
	}
	var writing sync.WaitGroup
	for i := 1; i < 100; i++ {
		writing.Go(func() {
			within(t, 2*time.Second, "a write of another family", func() {
				if err := s.Spend(t.Context(), testNow, []storage.Key{ticket(i).Key}); err != nil {
					t.Error(err)
				}
			})
		})
	}
	writing.Wait()
	within(t, 10*time.Second, "the writes that wait for the row", func() {
		for range cap(locked) {
			if err := <-locked; !errors.Is(err, storage.ErrUnavailable) {
				t.Errorf("a write of the locked row: %v", err)
			}
		}
	})
	if _, err := other.Exec(t.Context(), `COMMIT`); err != nil {
		t.Fatal(err)
	}
	if err := s.Spend(t.Context(), testNow, []storage.Key{ticket(0).Key}); err != nil {
		t.Errorf("after the lock was released: %v", err)
	}
}

// If the caller gives up while the operation is waiting, the operation never runs.
func TestAbandonedOperationNeverRuns(t *testing.T) {
	w := &writer{closing: make(chan struct{}), stopped: make(chan struct{}), lanes: []chan *operation{make(chan *operation, 1)}}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	op := &operation{}
	if err := w.do(ctx, "", op); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if len(w.lanes[0]) > 0 && op.taken.CompareAndSwap(false, true) {
		t.Error("an operation can be taken after its caller gave up")
	}
}

// The connection is lost between a COMMIT and its response. The store still returns the outcome.
func TestRE09_UnknownCommitIsLookedUp(t *testing.T) {
	t.Parallel() // it waits most of the time
	server := pgtest.Start(t, "synchronous_standby_names=standby", "synchronous_commit=local")
	databaseURL := server.Database("test")
	s := openTest(t, databaseURL+"&application_name=lost")
	server.Exec("test", `ALTER ROLE postgres SET synchronous_commit = on`)
	s.database.(*postgreSQL).pool.Reset()
	a := storage.Ticket{Key: storage.Kind("code").Hash("a"), Expires: testNow.Add(time.Hour)}
	// There is no standby: COMMIT waits until the store gives up the connection.
	within(t, 12*time.Second, "a commit without the standby", func() {
		if err := s.Put(t.Context(), testNow, a); err != nil {
			t.Errorf("Put: %v", err)
		}
	})
	if _, err := s.Get(t.Context(), testNow, a.Key); err != nil {
		t.Errorf("Put returned nil and stored nothing: %v", err)
	}
}

// replicated waits until a standby has a number of tickets.
func replicated(t *testing.T, host string, tickets int) {
	t.Helper()
	at := url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/test", RawQuery: url.Values{"host": {host}}.Encode()}
	for deadline, n := time.Now().Add(time.Minute), 0; n < tickets; {
		if time.Now().After(deadline) {
			t.Fatalf("the standby has %d of %d tickets", n, tickets)
		}
		conn, err := pgx.Connect(t.Context(), at.String())
		if err != nil {
			continue // it has not replayed the creation of the database
		}
		if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM tickets`).Scan(&n); err != nil {
			n = 0 // or of the table
		}
		conn.Close(t.Context())
	}
}

// Several hosts and target_session_attrs=read-write: a promoted standby takes over.
func TestRE10_Failover(t *testing.T) {
	t.Parallel() // it waits most of the time
	primary := pgtest.Start(t)
	primary.Database("test")
	standby := primary.Standby(t)
	at := url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/test", RawQuery: url.Values{
		"host": {primary.Host() + "," + standby.Host()}, "port": {"5432,5432"}, "target_session_attrs": {"read-write"},
	}.Encode()}
	s := openTest(t, at.String())
	put := func(i int) error {
		return s.Put(t.Context(), testNow, storage.Ticket{Key: storage.Kind("code").Hash(fmt.Sprint(i)), Expires: testNow.Add(time.Hour)})
	}
	for i := range 20 {
		if err := put(i); err != nil {
			t.Fatal(err)
		}
	}
	replicated(t, standby.Host(), 20)
	// The primary goes silent, as if its host had failed, and the standby replaces it.
	primary.Freeze()
	standby.Promote()
	for i, deadline := 20, time.Now().Add(time.Minute); ; i++ {
		began := time.Now()
		err := put(i)
		if err == nil {
			break
		}
		if !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("during the failover: %v", err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("a write hung for %v", took)
		}
		if time.Now().After(deadline) {
			t.Fatalf("the store does not find the new primary: %v", err)
		}
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("Ping after the failover: %v", err)
	}
	for i := range 20 {
		if _, err := s.Get(t.Context(), testNow, storage.Kind("code").Hash(fmt.Sprint(i))); err != nil {
			t.Errorf("ticket %d after the failover: %v", i, err)
		}
	}
}

// A ticket may be stored between the last query of a removal and its commit.
func TestCN07_RemovalFindsWhatIsStoredBeforeItCommits(t *testing.T) {
	databaseURL := postgreSQLDatabase(t)
	s := openTest(t, databaseURL)
	grant, err := s.UpdateGrant(t.Context(), "ada", "app", func(*record.Grant) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	other, err := pgx.Connect(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(context.Background())
	for _, query := range []string{`BEGIN`, `SELECT 1 FROM grants FOR UPDATE`} {
		if _, err := other.Exec(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	deleted := make(chan error, 1)
	go func() { deleted <- s.DeleteGrant(t.Context(), grant.ID) }()
	waiting := false
	for deadline := time.Now().Add(time.Minute); !waiting; {
		err := other.QueryRow(t.Context(), `SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting)
		if err != nil || time.Now().After(deadline) {
			t.Fatal("the removal does not wait: ", err)
		}
	}
	code := storage.Ticket{Key: storage.Kind("code").Hash("a"), Grant: grant.ID, Expires: testNow.Add(time.Hour)}
	if err := s.Put(t.Context(), testNow, code); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Exec(t.Context(), `COMMIT`); err != nil {
		t.Fatal(err)
	}
	if err := <-deleted; err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), testNow, code.Key); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("a ticket of the deleted grant: %v", err)
	}
}

// PutAndFind sees a grant that was deleted while its own transaction was waiting to commit.
func TestCN07_PutAndFindReadsAfterItsCommit(t *testing.T) {
	databaseURL := postgreSQLDatabase(t)
	s, second := openTest(t, databaseURL), openTest(t, databaseURL)
	grant, err := s.UpdateGrant(t.Context(), "ada", "app", func(*record.Grant) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	other, err := pgx.Connect(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(context.Background())
	for _, query := range []string{
		`CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			PERFORM set_config('lock_timeout', '0', true), pg_advisory_xact_lock(4711); RETURN NULL; END $$`,
		`CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON tickets DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait()`,
		`SELECT pg_advisory_lock(4711)`,
	} {
		if _, err := other.Exec(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	code := storage.Ticket{Key: storage.Kind("code").Hash("a"), Grant: grant.ID, Expires: testNow.Add(time.Hour)}
	found := make(chan record.Found, 1)
	go func() {
		result, err := s.PutAndFind(t.Context(), testNow, record.Find{Grant: grant.ID}, code)
		if err != nil {
			t.Error(err)
		}
		found <- result
	}()
	waiting := false
	for deadline := time.Now().Add(time.Minute); !waiting; {
		err := other.QueryRow(t.Context(), `SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'`).Scan(&waiting)
		if err != nil || time.Now().After(deadline) {
			t.Fatal("the commit does not wait: ", err)
		}
	}
	if err := second.DeleteGrant(t.Context(), grant.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Exec(t.Context(), `SELECT pg_advisory_unlock(4711)`); err != nil {
		t.Fatal(err)
	}
	if result := <-found; result.Grant {
		t.Error("the grant is found, although it was deleted before the tickets were stored")
	}
}

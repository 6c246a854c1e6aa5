package sqldb

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
	"github.com/valetkey/valetkey/storage/storagetest"
)

// The operator's default is not the isolation level that the statements are written for.
func TestStoreSerializable(t *testing.T) {
	storagetest.Store(t, func(t *testing.T) storagetest.Database {
		u, err := url.Parse(postgreSQLDatabase(t))
		if err != nil {
			t.Fatal(err)
		}
		query := u.Query()
		query.Set("default_transaction_isolation", "serializable")
		u.RawQuery = query.Encode()
		return openNodes(t, u.String())
	})
}

// failing makes PostgreSQL reject two of every eleven transactions at a statement, with
// serialization_failure and deadlock_detected, and one at its commit.
const failing = `
	CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF txid_current() % 11 = 3 THEN RAISE EXCEPTION 'injected' USING ERRCODE = '40001'; END IF;
		IF txid_current() % 11 = 6 THEN RAISE EXCEPTION 'injected' USING ERRCODE = '40P01'; END IF;
		RETURN NULL;
	END $$;
	CREATE FUNCTION fail_commit() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF txid_current() % 11 = 9 THEN RAISE EXCEPTION 'injected' USING ERRCODE = '40001'; END IF;
		RETURN NULL;
	END $$;`

// Transactions that fail with a retryable error are tried again.
func TestStoreInjectedFailures(t *testing.T) {
	storagetest.Store(t, func(t *testing.T) storagetest.Database {
		databaseURL := postgreSQLDatabase(t)
		s := openTest(t, databaseURL)
		script := failing
		for _, table := range strings.Fields("issuer tickets clients scopes resources keys grants users identifiers traces outbox mail_outbox") {
			script += "CREATE TRIGGER fail AFTER INSERT OR UPDATE OR DELETE ON " + table + " FOR EACH STATEMENT EXECUTE FUNCTION fail();\n"
			script += "CREATE CONSTRAINT TRIGGER fail_commit AFTER INSERT OR UPDATE OR DELETE ON " + table + " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fail_commit();\n"
		}
		conn, err := pgx.Connect(t.Context(), databaseURL)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		if _, err := conn.Exec(t.Context(), script); err != nil {
			t.Fatal(err)
		}
		return s
	})
}

// Reclaim waits for a transaction that renews an expired record, and then keeps the record.
func TestOP08_ReclaimKeepsWhatIsRenewedWhileItWaits(t *testing.T) {
	later := testNow.Add(2 * time.Hour)
	for table, renew := range map[string]string{
		"tickets": `UPDATE tickets SET expires = expires + 86400000`,
		"clients": `UPDATE clients SET unused_until = 0`,
	} {
		t.Run(table, func(t *testing.T) {
			databaseURL := postgreSQLDatabase(t)
			s := openTest(t, databaseURL)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			ticket := storage.Ticket{Key: storage.Kind("code").Hash("a"), Expires: testNow.Add(time.Hour)}
			if err := s.Put(ctx, testNow, ticket); err != nil {
				t.Fatal(err)
			}
			client := &record.Client{ID: "c", Registration: &record.Registration{CreatedAt: testNow, UnusedUntil: testNow.Add(time.Hour)}}
			if err := s.RegisterClient(ctx, client, 10); err != nil {
				t.Fatal(err)
			}
			other, err := pgx.Connect(ctx, databaseURL)
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close(context.Background())
			for _, query := range []string{"BEGIN", renew} {
				if _, err := other.Exec(ctx, query); err != nil {
					t.Fatal(err)
				}
			}
			reclaimed := make(chan error, 1)
			go func() {
				_, err := s.Reclaim(ctx, later)
				reclaimed <- err
			}()
			for waiting := 0; waiting == 0; {
				err := other.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting)
				if err != nil {
					t.Fatal(err)
				}
			}
			if _, err := other.Exec(ctx, "COMMIT"); err != nil {
				t.Fatal(err)
			}
			if err := <-reclaimed; err != nil {
				t.Fatal(err)
			}
			var left int
			if err := other.QueryRow(ctx, `SELECT count(*) FROM `+table).Scan(&left); err != nil || left != 1 {
				t.Errorf("%d of %s left (%v)", left, table, err)
			}
		})
	}
}

package sqldb

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pressly/goose/v3"

	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// postgreSQL is a PostgreSQL database, which other nodes may use at the same time.
type postgreSQL struct {
	pool *pgxpool.Pool
	db   *sql.DB // uses the same connections

	reads sharedReads

	pooled    atomic.Bool  // connections go through a pooler (postgres_pool.go)
	resetLast atomic.Int64 // in Unix milliseconds
}

// requireTLS rejects unencrypted connections to another machine. If the URL does not mention
// TLS, PostgreSQL's clients fall back to a connection without it; requireTLS removes that
// fallback. The operator can allow both (Config.InsecureConnection).
func requireTLS(config *pgx.ConnConfig, insecure bool) error {
	if insecure {
		return nil
	}

	if config.TLSConfig == nil && !loopback(config.Host) {
		return errors.New("open database: the connection to another host is not encrypted (sslmode); use sslmode=verify-full, or at least require; insecure_database_connection allows it on a private network")
	}
	kept := config.Fallbacks[:0]
	for _, f := range config.Fallbacks {
		if f.TLSConfig != nil || loopback(f.Host) {
			kept = append(kept, f)
		}
	}
	config.Fallbacks = kept
	return nil
}

// loopback reports whether host is this machine: the directory of a socket, localhost, or a
// loopback address.
func loopback(host string) bool {
	if strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || host == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback()
}

func (d *postgreSQL) name() string { return "postgres" }

func (*postgreSQL) parsedJSON(column string) string { return "CAST(" + column + " AS jsonb)" }
func (d *postgreSQL) read() querier                 { return d.db }
func (d *postgreSQL) lanes() int                    { return postgreSQLLanes }
func (d *postgreSQL) write() *sql.DB                { return d.db }
func (d *postgreSQL) alone() bool                   { return false }
func (d *postgreSQL) forUpdate() string             { return " FOR UPDATE" }
func (d *postgreSQL) forUpdateUnlessLocked() string { return " FOR UPDATE SKIP LOCKED" }

func (d *postgreSQL) lockAdministrators(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtext('valetkey administrators'), hashtext(current_schema()))`)
	return err
}

func (d *postgreSQL) begin(ctx context.Context) (*sql.Tx, func(), error) {
	tx, err := d.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	return tx, func() {}, err
}

func (d *postgreSQL) refused(err error) bool {
	var failed *commitError
	if errors.As(err, &failed) {
		return false
	}
	var serverError *pgconn.PgError
	return errors.Is(err, errHalfDone) || errors.As(err, &serverError)
}

// locked looks for lock_not_available (PostgreSQL, appendix A).
func (d *postgreSQL) locked(err error) bool {
	var serverError *pgconn.PgError
	return errors.As(err, &serverError) && serverError.Code == "55P03"
}

func (d *postgreSQL) patience(ctx context.Context, tx *sql.Tx) error {
	if _, err := tx.ExecContext(ctx, lockTimeout(lockPatience)); err != nil {
		return fmt.Errorf("set lock_timeout: %w", err)
	}
	return nil
}

// retryable looks for serialization_failure and deadlock_detected (PostgreSQL, appendix A).
func (d *postgreSQL) retryable(err error) bool {
	var serverError *pgconn.PgError
	return errors.As(err, &serverError) && (serverError.Code == "40001" || serverError.Code == "40P01")
}

func (d *postgreSQL) exists(ctx context.Context, table string) (exists bool, err error) {
	err = d.pool.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, table).Scan(&exists)
	return exists, err
}

func (d *postgreSQL) migrator(files fs.FS) (*goose.Provider, error) {
	return goose.NewProvider(goose.DialectPostgres, d.db, withLockTimeout{files}, goose.WithDisableGlobalRegistry(true))
}

const (
	// migrationLock is the number of the advisory lock that a migrating node holds.
	migrationLock = 0x76616c65746b6579
	// migrationPatience is how long a node waits for the migrations of another one, and for others'
	// locks on tables.
	migrationPatience = time.Minute
	// migrationLockWait is how long one attempt of a migration waits for a lock, and with it the
	// requests of running nodes.
	migrationLockWait = 500 * time.Millisecond
)

// whileMigrating lets nodes that start at the same time migrate one after the other. The lock
// belongs to a transaction, because behind a pooler a session is not the node's own.
func (d *postgreSQL) whileMigrating(ctx context.Context, migrate func() error) error {
	return pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockTimeout(migrationPatience)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(migrationLock)); err != nil {
			return fmt.Errorf("wait for another node: %w", err)
		}
		return migrate()
	})
}

// lockTimeout returns the statement that limits how long the current transaction waits for a lock.
func lockTimeout(d time.Duration) string {
	return fmt.Sprintf("SET LOCAL lock_timeout = %d", d.Milliseconds())
}

// ping checks what every request needs: that the tables exist and can be written to.
func (d *postgreSQL) ping(ctx context.Context) error {
	var readOnly bool
	err := d.pool.QueryRow(ctx, `SELECT current_setting('transaction_read_only') = 'on' FROM issuer WHERE id = $1`, 1).Scan(&readOnly)
	if err == nil && readOnly {
		err = errors.New("the database is read-only: it is a standby")
	}
	return err
}

func (d *postgreSQL) close() error {
	err := d.db.Close()
	d.pool.Close()
	return err
}

func (d *postgreSQL) tickets(ctx context.Context, query string, args ...any) (found []storage.Ticket, err error) {
	err = d.rows(ctx, func(r postgreSQLRow) error {
		t, err := ticketOfValues(r)
		found = append(found, t)
		return err
	}, query, args...)
	return found, err
}

func (d *postgreSQL) ticketsByKey(ctx context.Context, at int64, keys ...storage.Key) (found []storage.Ticket, err error) {
	args := make([]any, 0, 3*len(keys))
	for i := range keys {
		args = append(args, string(keys[i].Kind), keys[i].ID[:], at)
	}
	err = d.byKey(ctx, func(r postgreSQLRow) error {
		t, err := ticketOfValues(r)
		found = append(found, t)
		return err
	}, getTickets[len(keys)-1], args...)
	return found, err
}

func (d *postgreSQL) grant(ctx context.Context, subject, clientID string) (found *record.Grant, err error) {
	err = d.byKey(ctx, func(r postgreSQLRow) error {
		g, err := scanGrant(r)
		found = &g
		return err
	}, selectGrant, subject, clientID)
	return found, err
}

// rows runs a query as binaryQuery does, and calls each with every row.
func (d *postgreSQL) rows(ctx context.Context, each func(postgreSQLRow) error, query string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return d.noticed(err)
	}
	defer conn.Release()
	rows, err := d.binaryQuery(ctx, conn.Conn(), query, args)
	if err != nil {
		return d.noticed(err)
	}
	for err == nil && rows.NextRow() {
		err = each(rows.Values())
	}
	_, closed := rows.Close()
	return cmp.Or(err, d.noticed(closed))
}

// One statement has one snapshot. A transaction that this snapshot does not include has a number
// of at least its xmin, so xmin is the next mark.
const (
	postgreSQLUserMark    = `SELECT txid_snapshot_xmin(txid_current_snapshot())`
	postgreSQLUserChanges = `SELECT txid_snapshot_xmin(txid_current_snapshot()), coalesce(c.user_id, '') FROM (VALUES (1)) AS one
		LEFT JOIN (SELECT user_id FROM user_changes WHERE transaction_id >= $1 LIMIT $2) AS c ON true`
)

func (d *postgreSQL) userChanges(ctx context.Context, since int64, most int) (next int64, ids []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if since == noMark {
		err = d.pool.QueryRow(ctx, postgreSQLUserMark).Scan(&next)
		return next, nil, d.noticed(err)
	}
	rows, err := d.pool.Query(ctx, postgreSQLUserChanges, since, most)
	if err != nil {
		return 0, nil, d.noticed(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&next, &id); err != nil {
			return 0, nil, err
		}
		if id != "" {
			ids = append(ids, id)
		}
	}
	return next, ids, d.noticed(rows.Err())
}

func (*postgreSQL) reclaimUserChanges() string {
	return `DELETE FROM user_changes WHERE seq IN
		(SELECT seq FROM user_changes WHERE changed < CAST(1000 * extract(epoch FROM now()) AS bigint) - CAST($1 AS bigint) LIMIT $2)`
}

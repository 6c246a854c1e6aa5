package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/valetkey/valetkey/storage"
)

// connectTimeout bounds the wait for a host that does not answer, unless the URL says
// connect_timeout.
const connectTimeout = 5 * time.Second

// postgreSQL is a database that other nodes use at the same time.
type postgreSQL struct {
	pool *pgxpool.Pool
	db   *sql.DB // of the same connections
}

func openPostgreSQL(ctx context.Context, databaseURL string) (*postgreSQL, error) {
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		// The parser's own words may quote what it could not read, the password too.
		return nil, errors.New("open database: the URL does not read as postgres://USER:PASSWORD@HOST:PORT/DATABASE?OPTION=VALUE; special characters in the password are percent-encoded")
	}
	if err := requireTLS(config.ConnConfig); err != nil {
		return nil, err
	}
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = "valetkey"
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	return &postgreSQL{pool, stdlib.OpenDBFromPool(pool)}, nil
}

// requireTLS refuses to talk in clear to another machine. Where the URL says nothing of
// TLS, PostgreSQL's clients go on without it if the server has none; that fallback is
// taken away.
func requireTLS(config *pgx.ConnConfig) error {
	if config.TLSConfig == nil && !loopback(config.Host) {
		return errors.New("open database: the connection to another host is not encrypted (sslmode); use sslmode=verify-full, or at least require")
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

// loopback reports whether host is this machine: a socket's folder, localhost, or a
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
func (d *postgreSQL) write() *sql.DB                { return d.db }
func (d *postgreSQL) alone() bool                   { return false }
func (d *postgreSQL) forUpdate() string             { return " FOR UPDATE" }
func (d *postgreSQL) prepare(context.Context) error { return nil }

func (d *postgreSQL) refused(err error) bool {
	var failed *commitError
	if errors.As(err, &failed) {
		return false
	}
	var answer *pgconn.PgError
	return errors.Is(err, errHalfDone) || errors.As(err, &answer)
}

// retryable: serialization_failure and deadlock_detected (PostgreSQL, appendix A).
func (d *postgreSQL) retryable(err error) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) && (answer.Code == "40001" || answer.Code == "40P01")
}

func (d *postgreSQL) exists(ctx context.Context, table string) (exists bool, err error) {
	err = d.pool.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, table).Scan(&exists)
	return exists, err
}

func (d *postgreSQL) migrator(files fs.FS) (*goose.Provider, error) {
	// Nodes that start together migrate one after the other; a second's patience each.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60))
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectPostgres, d.db, files, goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true))
}

func (d *postgreSQL) ping(ctx context.Context) error { return d.pool.Ping(ctx) }

func (d *postgreSQL) close() error {
	err := d.db.Close()
	d.pool.Close()
	return err
}

func (d *postgreSQL) tickets(ctx context.Context, query string, args ...any) ([]storage.Ticket, error) {
	rows, err := d.pool.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []storage.Ticket
	for rows.Next() {
		var row ticketRow
		if err := rows.Scan(row.fields()...); err != nil {
			return nil, err
		}
		t, err := row.ticket()
		if err != nil {
			return nil, err
		}
		found = append(found, t)
	}
	return found, rows.Err()
}

func (d *postgreSQL) batch(ctx context.Context, f func(pipeline) error) error {
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	// BEGIN waits, to travel with the first statements.
	p := &postgreSQLPipeline{ctx: ctx, conn: conn.Conn()}
	if err := f(p); err != nil {
		if p.begun {
			// If even that fails the pool throws the connection away.
			_, rollback := conn.Exec(ctx, "ROLLBACK")
			return errors.Join(err, rollback)
		}
		return err
	}
	if !p.begun {
		return nil
	}
	if _, err := conn.Exec(ctx, "COMMIT"); d.retryable(err) {
		return err // nothing was committed
	} else if err != nil {
		return &commitError{err}
	}
	return nil
}

type postgreSQLPipeline struct {
	ctx   context.Context
	conn  *pgx.Conn
	begun bool
}

// exec sends all statements at once and then reads all answers.
func (p *postgreSQLPipeline) exec(statements []statement) ([]int64, error) {
	if len(statements) == 0 && p.begun {
		return nil, nil
	}
	batch := &pgx.Batch{}
	if !p.begun {
		batch.Queue("BEGIN ISOLATION LEVEL READ COMMITTED")
	}
	for _, s := range statements {
		batch.Queue(s.query, s.args...)
	}
	results := p.conn.SendBatch(p.ctx, batch)
	changed := make([]int64, len(statements))
	err := p.answers(results, changed)
	return changed, errors.Join(err, results.Close())
}

func (p *postgreSQLPipeline) answers(results pgx.BatchResults, changed []int64) error {
	if !p.begun {
		if _, err := results.Exec(); err != nil {
			return err
		}
		p.begun = true
	}
	for i := range changed {
		tag, err := results.Exec()
		if err != nil {
			return err
		}
		changed[i] = tag.RowsAffected()
	}
	return nil
}

func (p *postgreSQLPipeline) keys(s statement) ([]storage.Key, error) {
	if _, err := p.exec(nil); err != nil {
		return nil, err
	}
	rows, err := p.conn.Query(p.ctx, s.query, s.args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (storage.Key, error) { return scanKey(row) })
}

package sqldb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/valetkey/valetkey/storage"
)

// How long to wait for a host that does not respond. A connection can go silent without an error:
// its host is frozen, or there was no RST during a failover.
const (
	// connectTimeout is for each host of the URL, unless the URL has connect_timeout.
	connectTimeout = 2 * time.Second
	// pingTimeout is for a connection that was idle, before it is used.
	pingTimeout = time.Second
	// readTimeout is for each query that reads.
	readTimeout = 3 * time.Second
	// transactTimeout is for a transaction outside the writer, lock waits included.
	transactTimeout     = 8 * time.Second
	longTransactTimeout = 2 * time.Minute
	lockPatience        = 3 * time.Second
	// userTimeout is for the acknowledgement of sent data (TCP_USER_TIMEOUT, RFC 5482).
	userTimeout = 5 * time.Second
)

// How long connections are kept. They do not all end at once, so that a pool follows a failover or
// a new address gradually.
const (
	maxConnLifetime = 30 * time.Minute
	maxConnIdle     = 5 * time.Minute
	// maxConns leaves some for readers, besides the writer's lanes and detours.
	maxConns = 20
)

// postgreSQLConfig parses a URL. It does not connect.
func postgreSQLConfig(databaseURL string, insecure bool) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		// The parser's error may quote what it could not parse, including the password.
		return nil, errors.New("open database: the URL is not of the form postgres://USER:PASSWORD@HOST:PORT/DATABASE?OPTION=VALUE; percent-encode special characters in the password")
	}
	if err := requireTLS(config.ConnConfig, insecure); err != nil {
		return nil, err
	}
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = "valetkey"
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	dialer := &net.Dialer{
		Control:         setUserTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3},
	}
	config.ConnConfig.DialFunc = dialer.DialContext
	for option, set := range map[string]func(){
		"pool_max_conns":                func() { config.MaxConns = maxConns },
		"pool_max_conn_lifetime":        func() { config.MaxConnLifetime = maxConnLifetime },
		"pool_max_conn_lifetime_jitter": func() { config.MaxConnLifetimeJitter = maxConnLifetime / 6 },
		"pool_max_conn_idle_time":       func() { config.MaxConnIdleTime = maxConnIdle },
	} {
		if !strings.Contains(databaseURL, option+"=") {
			set()
		}
	}
	return config, nil
}

func openPostgreSQL(ctx context.Context, databaseURL string, insecure bool) (*postgreSQL, error) {
	config, err := postgreSQLConfig(databaseURL, insecure)
	if err != nil {
		return nil, err
	}
	d := &postgreSQL{}
	config.BeforeConnect = d.beforeConnect
	config.AfterConnect = d.afterConnect
	config.ShouldPing = d.shouldPing
	if err := d.probe(ctx, config.ConnConfig); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if d.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	d.db = stdlib.OpenDBFromPool(d.pool)
	return d, nil
}

// A pooler, such as PgBouncer in transaction mode, may give each transaction another connection to
// the server. A statement that was prepared by name in one does not exist in the next. A pooler is
// recognized by the process ID that it announces for cancel requests, which is not the server's.
// Behind a pooler, statements are sent in full each time; without one, they stay prepared, which
// saves the server a third of its work.

// probe finds out whether there is a pooler, before the pool is opened.
func (d *postgreSQL) probe(ctx context.Context, config *pgx.ConnConfig) error {
	config = config.Copy()
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	pooled, err := behindPooler(ctx, conn)
	d.pooled.Store(pooled)
	return errors.Join(err, conn.Close(ctx))
}

func behindPooler(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var pid uint32
	if err := conn.QueryRow(ctx, `SELECT pg_backend_pid()`, pgx.QueryExecModeExec).Scan(&pid); err != nil {
		return false, fmt.Errorf("look for a connection pooler: %w", err)
	}
	return pid != conn.PgConn().PID(), nil
}

func (d *postgreSQL) beforeConnect(_ context.Context, config *pgx.ConnConfig) error {
	if d.pooled.Load() {
		config.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	return nil
}

// afterConnect notices a pooler that was added while the server runs. Earlier connections are
// useless then, and so is this one, which would prepare statements.
func (d *postgreSQL) afterConnect(ctx context.Context, conn *pgx.Conn) error {
	if d.pooled.Load() {
		return nil
	}
	pooled, err := behindPooler(ctx, conn)
	if err != nil || !pooled {
		return err
	}
	d.pooled.Store(true)
	go d.pool.Reset()
	return fmt.Errorf("%w: a connection pooler was added; the next connection takes it into account", storage.ErrUnavailable)
}

// shouldPing tests a connection that was idle. If it is silent, the others are, too.
func (d *postgreSQL) shouldPing(ctx context.Context, p pgxpool.ShouldPingParams) bool {
	if p.IdleDuration < time.Second {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if err := p.Conn.Ping(ctx); err != nil {
		d.noticed(err)
		return true // the pool then finds that it is closed
	}
	return false
}

// noticed inspects an error before it is returned: if the server is silent or was replaced,
// earlier connections are not used again.
func (d *postgreSQL) noticed(err error) error {
	var serverError *pgconn.PgError
	switch {
	case err == nil:
	case errors.As(err, &serverError):
		// read_only_sql_transaction: a standby, or a primary that was demoted.
		// undefined and duplicate prepared statement: a pooler was added.
		switch serverError.Code {
		case "25006":
			d.reset()
		case "26000", "42P05":
			d.pooled.Store(true)
			d.reset()
		}
	case errors.Is(err, context.DeadlineExceeded):
		d.reset()
	}
	return err
}

// reset makes the pool open new connections, at most once a second.
func (d *postgreSQL) reset() {
	now := time.Now().UnixMilli()
	last := d.resetLast.Load()
	if now-last >= 1000 && d.resetLast.CompareAndSwap(last, now) {
		d.pool.Reset()
	}
}

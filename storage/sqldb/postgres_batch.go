package sqldb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/valetkey/valetkey/storage"
)

// beginBatch limits how long the transaction waits for locks, and returns its ID, so that it can
// be looked up if the connection is lost during COMMIT. The timeline distinguishes a server from
// the standby that replaces it, which may give the same ID to another transaction.
const beginBatch = `SELECT set_config('lock_timeout', $1, true), pg_current_xact_id()::text, ` + timeline

const timeline = `left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)`

// transaction is what beginBatch returns.
type transaction struct{ id, timeline string }

func (d *postgreSQL) batch(ctx context.Context, lockWait time.Duration, f func(pipeline) error) error {
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return d.noticed(err)
	}
	defer conn.Release()
	// BEGIN is sent together with the first statements.
	p := &postgreSQLPipeline{ctx: ctx, database: d, conn: conn.Conn(), lockWait: lockWait}
	if err := f(p); err != nil {
		if p.begun && !conn.Conn().IsClosed() {
			// If that fails too, the pool discards the connection.
			_, rollback := conn.Exec(ctx, "ROLLBACK")
			err = errors.Join(err, rollback)
		}
		return d.noticed(err)
	}
	if !p.begun {
		return nil
	}
	tag, err := conn.Exec(ctx, "COMMIT")
	if err == nil && tag.String() == "ROLLBACK" { // the transaction had failed
		return errors.New("commit: the server rolled back")
	}
	var serverError *pgconn.PgError
	if errors.As(err, &serverError) && serverError.Severity == "ERROR" {
		return fmt.Errorf("commit: %w", err) // it did not take effect
	}
	if err != nil {
		return &commitError{err: d.noticed(err), transaction: p.transaction}
	}
	return nil
}

// settle waits until the server knows whether the commit took effect.
func (d *postgreSQL) settle(ctx context.Context, failed *commitError) (committed bool, err error) {
	for {
		var status, now string
		err := d.pool.QueryRow(ctx, `SELECT coalesce(pg_xact_status($1::text::xid8), ''), `+timeline, failed.transaction.id).Scan(&status, &now)
		switch {
		case err != nil && ctx.Err() == nil && unavailable(err):
			// It may be available again in a moment.
		case err != nil:
			return false, fmt.Errorf("look up a commit: %w", d.noticed(err))
		case now != failed.transaction.timeline:
			return false, errors.New("look up a commit: another server has taken over")
		case status == "committed":
			return true, nil
		case status == "aborted":
			return false, nil
		}
		select {
		case <-ctx.Done():
			return false, fmt.Errorf("look up a commit: its status is still %q: %w", status, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

type postgreSQLPipeline struct {
	ctx      context.Context
	database *postgreSQL
	conn     *pgx.Conn
	lockWait time.Duration
	begun    bool
	transaction
}

// change sends all changes at once and then reads all results.
func (p *postgreSQLPipeline) change(changes []*change) error {
	if len(changes) == 0 {
		return nil
	}
	s, err := p.database.newSender(p.ctx, p.conn)
	if err != nil {
		return err
	}
	return s.sendSome(p.ctx, p.lockWait, &p.begun, &p.transaction, changes)
}

// exec sends all statements at once and then reads all results.
func (p *postgreSQLPipeline) exec(statements []statement) ([]int64, error) {
	if len(statements) == 0 && p.begun {
		return nil, nil
	}
	batch := &pgx.Batch{}
	if !p.begun {
		batch.Queue(beginTransaction)
		batch.Queue(beginBatch, fmt.Sprint(p.lockWait.Milliseconds()))
	}
	for _, s := range statements {
		batch.Queue(s.query, s.args...)
	}
	results := p.conn.SendBatch(p.ctx, batch)
	changed := make([]int64, len(statements))
	err := p.readResults(results, changed)
	return changed, errors.Join(err, results.Close())
}

func (p *postgreSQLPipeline) readResults(results pgx.BatchResults, changed []int64) error {
	if !p.begun {
		if _, err := results.Exec(); err != nil {
			return err
		}
		p.begun = true
		var wait string
		if err := results.QueryRow().Scan(&wait, &p.id, &p.timeline); err != nil {
			return err
		}
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

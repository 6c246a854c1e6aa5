package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"time"

	"github.com/valetkey/valetkey/internal/telemetry"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// observed is a database whose reads are measured: one operation, and one span in a sampled trace, for
// each query or batch of queries. Writes of tickets are measured by the writer, and transactions by
// Store.transactWithin.
type observed struct {
	database
	telemetry *telemetry.Telemetry
	system    string
	reader    querier
}

// observe returns d if there is no telemetry.
func observe(d database, t *telemetry.Telemetry) database {
	if t == nil {
		return d
	}
	o := &observed{database: d, telemetry: t, system: systemName(d)}
	o.reader = observedQuerier{d.read(), o}
	return o
}

// systemName is the value of db.system.name in OpenTelemetry.
func systemName(d database) string {
	if asPostgreSQL(d) != nil {
		return "postgresql"
	}
	return "sqlite"
}

// asPostgreSQL returns the PostgreSQL database behind d; nil if it is another one.
func asPostgreSQL(d database) *postgreSQL {
	if o, ok := d.(*observed); ok {
		d = o.database
	}
	p, _ := d.(*postgreSQL)
	return p
}

// The names of operations. An operation of the writer is a batch, which others may share.
const (
	operationBatch       = "batch"
	operationTickets     = "read tickets"
	operationGrant       = "read grant"
	operationQuery       = "query"
	operationTransaction = "transaction"
)

func (o *observed) tickets(ctx context.Context, query string, args ...any) (found []storage.Ticket, err error) {
	operation := o.telemetry.StartOperation(ctx, o.system, operationTickets)
	defer func() { operation.End(0, fault(err)) }()
	return o.database.tickets(ctx, query, args...)
}

func (o *observed) ticketsByKey(ctx context.Context, at int64, keys ...storage.Key) (found []storage.Ticket, err error) {
	operation := o.telemetry.StartOperation(ctx, o.system, operationTickets)
	defer func() { operation.End(0, fault(err)) }()
	return o.database.ticketsByKey(ctx, at, keys...)
}

func (o *observed) grant(ctx context.Context, subject, clientID string) (found *record.Grant, err error) {
	operation := o.telemetry.StartOperation(ctx, o.system, operationGrant)
	defer func() { operation.End(0, fault(err)) }()
	return o.database.grant(ctx, subject, clientID)
}

func (o *observed) find(ctx context.Context, f *finding) (err error) {
	operation := o.telemetry.StartOperation(ctx, o.system, operationTickets)
	defer func() { operation.End(0, fault(err)) }()
	return o.database.find(ctx, f)
}

func (o *observed) read() querier { return o.reader }

// observedQuerier measures queries. collect measures its own, because it reads SQLite in a faster way.
type observedQuerier struct {
	querier
	*observed
}

// QueryContext implements querier.
func (q observedQuerier) QueryContext(ctx context.Context, query string, args ...any) (rows *sql.Rows, err error) {
	operation := q.telemetry.StartOperation(ctx, q.system, operationQuery)
	defer func() { operation.End(0, fault(err)) }()
	return q.querier.QueryContext(ctx, query, args...)
}

// QueryRowContext implements querier.
func (q observedQuerier) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	operation := q.telemetry.StartOperation(ctx, q.system, operationQuery)
	row := q.querier.QueryRowContext(ctx, query, args...)
	operation.End(0, fault(row.Err()))
	return row
}

// measure sets the gauges of the database.
func (s *Store) measure(ctx context.Context) {
	size, err := s.database.size(ctx)
	s.telemetry.DatabaseSize(systemName(s.database), size, err)
	if d := asPostgreSQL(s.database); d != nil {
		stat := d.pool.Stat()
		s.telemetry.Connections(systemName(d), int(stat.AcquiredConns()), int(stat.IdleConns()))
	}
	for _, name := range []string{storage.OutboxClients, storage.OutboxUsers} {
		state, err := s.OutboxState(ctx, name)
		age := time.Duration(0)
		if state.Waiting > 0 {
			age = time.Since(state.Oldest)
		}
		s.telemetry.Outbox(name, state.Waiting, age, err)
	}
}

// size returns the size of the file, and of those that SQLite keeps next to it.
func (d *sqlite) size(ctx context.Context) (bytes int64, err error) {
	if d.path == "" { // in memory
		err := d.reader.QueryRowContext(ctx, `SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()`).Scan(&bytes)
		return bytes, err
	}
	for _, name := range []string{d.path, d.path + "-wal", d.path + "-shm"} {
		info, err := os.Stat(name)
		if errors.Is(err, os.ErrNotExist) && name != d.path {
			continue
		}
		if err != nil {
			return 0, err
		}
		bytes += info.Size()
	}
	return bytes, nil
}

func (d *postgreSQL) size(ctx context.Context) (bytes int64, err error) {
	err = d.pool.QueryRow(ctx, `SELECT pg_database_size(current_database())`).Scan(&bytes)
	return bytes, err
}

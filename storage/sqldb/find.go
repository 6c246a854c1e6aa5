package sqldb

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	zombiezen "zombiezen.com/go/sqlite"

	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// finding is what record.Store.PutAndFind looks for, and what it has found.
//
// It is read after the tickets took effect. On PostgreSQL the query is sent together with the
// transaction, after COMMIT, so its snapshot includes the transaction. On SQLite the query is the
// last statement of the transaction, which excludes all others until its commit.
type finding struct {
	record.Find
	at    int64 // now, in milliseconds
	done  bool  // found is known
	found record.Found
}

const findGrantAndTicket = `SELECT EXISTS (SELECT 1 FROM grants WHERE id = $1), ` +
	`t.kind, t.id, t.grant_id, t.family, t.data, t.expires, t.spent ` +
	`FROM (SELECT 1) AS one LEFT JOIN tickets AS t ON t.kind = $2 AND t.id = $3 AND t.expires > $4`

// PutAndFind implements record.Store.
func (s *Store) PutAndFind(ctx context.Context, now time.Time, find record.Find, put ...storage.Ticket) (record.Found, error) {
	f := &finding{Find: find, at: now.UnixMilli()}
	op, about, err := newOperation(now, nil, put)
	if err != nil {
		return f.found, err
	}
	op.find = f
	if err := s.writer.do(ctx, about, op); err != nil {
		return f.found, err
	}
	if !f.done { // the batch took more than one round trip
		if err := s.database.find(ctx, f); err != nil {
			return f.found, fmt.Errorf("find what tickets depend on: %w", fault(err))
		}
	}
	return f.found, nil
}

// findAll finds what the operations of a batch that have not failed look for.
func (p sqlitePipeline) findAll(batch []*operation, errs []error) error {
	for i, op := range batch {
		if op.find == nil || errs[i] != nil {
			continue
		}
		if err := op.find.inSQLite(p.conn); err != nil {
			return err
		}
	}
	return nil
}

func (f *finding) inSQLite(c *sqliteConn) error {
	return c.query(f.row, findGrantAndTicket, f.Grant, string(f.Key.Kind), f.Key.ID[:], f.at)
}

func (f *finding) row(stmt *zombiezen.Stmt) error {
	f.found.Grant, f.found.Ticket, f.done = stmt.ColumnBool(0), nil, true
	if stmt.ColumnIsNull(1) {
		return nil
	}
	t, err := ticketOf(stmt, 1)
	f.found.Ticket = &t
	return err
}

func (d *sqlite) find(ctx context.Context, f *finding) error {
	return d.readers.query(ctx, f.row, findGrantAndTicket, f.Grant, string(f.Key.Kind), f.Key.ID[:], f.at)
}

func (d *postgreSQL) find(ctx context.Context, f *finding) error {
	return d.rows(ctx, f.values, findGrantAndTicket, f.Grant, string(f.Key.Kind), f.Key.ID[:], f.at)
}

// read reads the result of findGrantAndTicket in the binary format.
func (f *finding) read(rows *pgconn.ResultReader) (err error) {
	for err == nil && rows.NextRow() {
		err = f.values(rows.Values())
	}
	_, closed := rows.Close()
	return cmp.Or(err, closed)
}

func (f *finding) values(r postgreSQLRow) error {
	if len(r) < 2 || len(r[0]) != 1 {
		return fmt.Errorf("a grant and a ticket have %d columns, or the first is not a boolean", len(r))
	}
	f.found.Grant, f.found.Ticket, f.done = r[0][0] == 1, nil, true
	if r[1] == nil {
		return nil
	}
	t, err := ticketOfValues(r[1:])
	f.found.Ticket = &t
	return err
}

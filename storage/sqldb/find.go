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

// findGrantAndTicket returns the ticket, and a row of kind findingGrant if the grant exists. With one
// table in each SELECT, SQLite finds the rows by their primary keys without looking at other indexes.
// With a join it compares the kind with the condition of a partial index. Its plan then depends on
// the value, and it parses the query again each time.
const findGrantAndTicket = `SELECT ` + ticketColumns + ` FROM tickets WHERE kind = $1 AND id = $2 AND expires > $3
	UNION ALL SELECT '` + findingGrant + `', NULL, NULL, NULL, NULL, NULL, NULL FROM grants WHERE id = $4`

const findingGrant = " grant" // no kind begins with a space

func (f *finding) args() []any { return []any{string(f.Key.Kind), f.Key.ID[:], f.at, f.Grant} }

// look runs findGrantAndTicket. An earlier attempt may have found something else.
func (f *finding) look(query func() error) error {
	f.found, f.done = record.Found{}, false
	err := query()
	f.done = err == nil
	return err
}

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
func (p *sqlitePipeline) findAll(batch []*operation, errs []error) error {
	for i, op := range batch {
		if op.find == nil || errs[i] != nil || p.memory.find(op.find) {
			continue
		}
		if err := op.find.inSQLite(p.conn); err != nil {
			return err
		}
	}
	return nil
}

func (f *finding) inSQLite(c *sqliteConn) error {
	return f.look(func() error { return c.query(f.row, findGrantAndTicket, f.args()...) })
}

func (d *sqlite) find(ctx context.Context, f *finding) error {
	return f.look(func() error { return d.readers.query(ctx, f.row, findGrantAndTicket, f.args()...) })
}

func (f *finding) row(stmt *zombiezen.Stmt) error {
	if stmt.ColumnText(0) == findingGrant {
		f.found.Grant = true
		return nil
	}
	t, err := ticketOf(stmt, 0)
	f.found.Ticket = &t
	return err
}

func (d *postgreSQL) find(ctx context.Context, f *finding) error {
	return f.look(func() error { return d.rows(ctx, f.values, findGrantAndTicket, f.args()...) })
}

// read reads the result of findGrantAndTicket in the binary format.
func (f *finding) read(rows *pgconn.ResultReader) error {
	return f.look(func() (err error) {
		for err == nil && rows.NextRow() {
			err = f.values(rows.Values())
		}
		_, closed := rows.Close()
		return cmp.Or(err, closed)
	})
}

func (f *finding) values(r postgreSQLRow) error {
	if len(r) > 0 && string(r[0]) == findingGrant {
		f.found.Grant = true
		return nil
	}
	t, err := ticketOfValues(r)
	f.found.Ticket = &t
	return err
}

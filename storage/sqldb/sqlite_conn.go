package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	zombiezen "zombiezen.com/go/sqlite"

	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
)

// sqliteConn is a connection to SQLite without database/sql, which costs twice as much as the query
// itself if a row is found by its key. Only one goroutine may use it at a time.
type sqliteConn struct{ conn *zombiezen.Conn }

// openSQLiteConn opens an existing database by its URI.
func openSQLiteConn(uri string, pragmas ...string) (*sqliteConn, error) {
	conn, err := zombiezen.OpenConn(uri, zombiezen.OpenReadWrite|zombiezen.OpenURI)
	if err != nil {
		return nil, err
	}
	c := &sqliteConn{conn}
	conn.SetBusyTimeout(sqliteBusyTimeout)
	for _, pragma := range pragmas {
		if err := c.query(func(*zombiezen.Stmt) error { return nil }, "PRAGMA "+pragma); err != nil {
			return nil, errors.Join(fmt.Errorf("set %s: %w", pragma, err), conn.Close())
		}
	}
	return c, nil
}

// query calls each with every row. The connection keeps the query prepared.
func (c *sqliteConn) query(each func(*zombiezen.Stmt) error, query string, args ...any) (err error) {
	stmt, err := c.bind(query, args)
	if err != nil {
		return err
	}
	// A statement that is not reset keeps its snapshot, and with it the write-ahead log.
	defer func() { err = errors.Join(err, stmt.Reset()) }()
	for {
		row, err := stmt.Step()
		if err != nil || !row {
			return err
		}
		if err := each(stmt); err != nil {
			return err
		}
	}
}

// exec runs a statement that returns no rows, and returns how many it changed.
func (c *sqliteConn) exec(query string, args ...any) (changed int64, err error) {
	stmt, err := c.bind(query, args)
	if err != nil {
		return 0, err
	}
	if _, err := stmt.Step(); err != nil {
		return 0, err // Step has already reset the statement
	}
	changed = int64(c.conn.Changes())
	return changed, stmt.Reset()
}

// change runs a change and sets done.
func (c *sqliteConn) change(change *change) error {
	stmt, err := c.conn.Prepare(change.query())
	if err != nil {
		return err
	}
	t := &change.ticket
	switch change.verb {
	case putting:
		stmt.BindText(1, string(t.Kind))
		stmt.BindBytes(2, t.ID[:])
		stmt.BindText(3, t.Grant)
		stmt.BindText(4, t.Family)
		stmt.BindBytes(5, t.Data)
		stmt.BindInt64(6, milliseconds(t.Expires))
		stmt.BindInt64(7, milliseconds(t.Spent))
		stmt.BindInt64(8, change.at)
	case spending:
		stmt.BindInt64(1, change.at)
		stmt.BindText(2, string(t.Kind))
		stmt.BindBytes(3, t.ID[:])
		stmt.BindInt64(4, change.at)
	case settingExpires:
		stmt.BindInt64(1, milliseconds(t.Expires))
		stmt.BindText(2, string(t.Kind))
		stmt.BindBytes(3, t.ID[:])
		stmt.BindInt64(4, change.at)
	}
	if _, err := stmt.Step(); err != nil {
		return err // Step has already reset the statement
	}
	change.done = c.conn.Changes() == 1
	return stmt.Reset()
}

func (c *sqliteConn) bind(query string, args []any) (*zombiezen.Stmt, error) {
	stmt, err := c.conn.Prepare(query)
	if err != nil {
		return nil, err
	}
	for i, arg := range args {
		switch arg := arg.(type) {
		case string:
			stmt.BindText(i+1, arg)
		case []byte:
			stmt.BindBytes(i+1, arg)
		case int64:
			stmt.BindInt64(i+1, arg)
		case int:
			stmt.BindInt64(i+1, int64(arg))
		case bool:
			stmt.BindBool(i+1, arg)
		default:
			return nil, fmt.Errorf("bind argument %d: unexpected type %T", i+1, arg)
		}
	}
	return stmt, nil
}

// columnBytes returns a copy of a column.
func columnBytes(stmt *zombiezen.Stmt, column int) []byte {
	value := make([]byte, stmt.ColumnLen(column))
	stmt.ColumnBytes(column, value)
	return value
}

// sqliteRow is the row that a statement is at.
type sqliteRow struct{ stmt *zombiezen.Stmt }

// Scan implements row.
func (r sqliteRow) Scan(dest ...any) error {
	for i, dest := range dest {
		switch dest := dest.(type) {
		case *string:
			*dest = r.stmt.ColumnText(i)
		case *[]byte:
			*dest = columnBytes(r.stmt, i)
		case *int64:
			*dest = r.stmt.ColumnInt64(i)
		case *int:
			*dest = r.stmt.ColumnInt(i)
		case *bool:
			*dest = r.stmt.ColumnBool(i)
		case *sql.NullString:
			*dest = sql.NullString{String: r.stmt.ColumnText(i), Valid: !r.stmt.ColumnIsNull(i)}
		case *jose.Algorithm:
			*dest = jose.Algorithm(r.stmt.ColumnText(i))
		default:
			return fmt.Errorf("scan column %d: into a %T", i, dest)
		}
	}
	return nil
}

// ticketOf reads ticketColumns, beginning with a column.
func ticketOf(stmt *zombiezen.Stmt, from int) (storage.Ticket, error) {
	t := storage.Ticket{
		Key:     storage.Key{Kind: storage.Kind(stmt.ColumnText(from))},
		Grant:   stmt.ColumnText(from + 2),
		Family:  stmt.ColumnText(from + 3),
		Data:    columnBytes(stmt, from+4),
		Expires: fromMilliseconds(stmt.ColumnInt64(from + 5)),
		Spent:   fromMilliseconds(stmt.ColumnInt64(from + 6)),
	}
	return t, readTicketID(stmt, from+1, &t.ID)
}

// keyOf reads the columns kind and id.
func keyOf(stmt *zombiezen.Stmt) (storage.Key, error) {
	key := storage.Key{Kind: storage.Kind(stmt.ColumnText(0))}
	return key, readTicketID(stmt, 1, &key.ID)
}

func readTicketID(stmt *zombiezen.Stmt, column int, id *storage.ID) error {
	if n := stmt.ColumnLen(column); n != len(id) {
		return fmt.Errorf("the id of a ticket has %d bytes", n)
	}
	stmt.ColumnBytes(column, id[:])
	return nil
}

// sqliteReaders is a pool of connections that read. They are opened when they are first needed.
type sqliteReaders struct {
	uri    string
	free   chan *sqliteConn // nil if not open yet
	closed chan struct{}
}

func newSQLiteReaders(uri string, n int) *sqliteReaders {
	r := &sqliteReaders{uri: uri, free: make(chan *sqliteConn, n), closed: make(chan struct{})}
	for range n {
		r.free <- nil
	}
	return r
}

// query runs a query on one of the connections. A read takes microseconds, so ctx limits
// only the wait for a connection.
func (r *sqliteReaders) query(ctx context.Context, each func(*zombiezen.Stmt) error, query string, args ...any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var c *sqliteConn
	select {
	case c = <-r.free:
	default:
		select {
		case c = <-r.free:
		case <-r.closed:
			return errClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer func() { r.free <- c }()
	if c == nil {
		opened, err := openSQLiteConn(r.uri, "query_only = 1", fmt.Sprintf("cache_size = %d", readerPages))
		if err != nil {
			return fmt.Errorf("open database: %w", err)
		}
		c = opened
	}
	return c.query(each, query, args...)
}

// close waits for running queries and closes the connections.
func (r *sqliteReaders) close() (err error) {
	close(r.closed)
	for range cap(r.free) {
		if c := <-r.free; c != nil {
			err = errors.Join(err, c.conn.Close())
		}
	}
	return err
}

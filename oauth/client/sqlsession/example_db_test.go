package sqlsession_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"strings"
	"sync"
)

// exampleDB is a database for the example: it can insert a session and select it by its ID.
// Real databases are used in the tests of the server's module.
type exampleDB struct {
	mu   sync.Mutex
	rows map[string][]driver.Value // sealed and version by ID
}

func newExampleDB() *exampleDB { return &exampleDB{rows: map[string][]driver.Value{}} }

func (db *exampleDB) Connect(context.Context) (driver.Conn, error) { return exampleConn{db}, nil }
func (db *exampleDB) Driver() driver.Driver                        { return nil }

type exampleConn struct{ *exampleDB }

func (c exampleConn) ExecContext(_ context.Context, statement string, arguments []driver.NamedValue) (driver.Result, error) {
	if strings.HasPrefix(statement, "INSERT") {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.rows[arguments[0].Value.(string)] = []driver.Value{arguments[6].Value, arguments[5].Value}
	}
	return driver.RowsAffected(1), nil
}

func (c exampleConn) QueryContext(_ context.Context, _ string, arguments []driver.NamedValue) (driver.Rows, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &exampleRows{c.rows[arguments[0].Value.(string)]}, nil
}

func (exampleConn) Prepare(string) (driver.Stmt, error) { return nil, errors.New("not supported") }
func (exampleConn) Begin() (driver.Tx, error)           { return nil, errors.New("not supported") }
func (exampleConn) Close() error                        { return nil }

type exampleRows struct{ row []driver.Value }

func (r *exampleRows) Columns() []string { return []string{"sealed", "version"} }
func (r *exampleRows) Close() error      { return nil }

func (r *exampleRows) Next(into []driver.Value) error {
	if r.row == nil {
		return io.EOF
	}
	copy(into, r.row)
	r.row = nil
	return nil
}

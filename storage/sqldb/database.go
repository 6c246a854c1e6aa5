package sqldb

import (
	"context"
	"database/sql"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/valetkey/valetkey/storage"
)

// database is what SQLite and PostgreSQL do differently. Every query is one text that both
// understand.
type database interface {
	// name is the folder of the migrations.
	name() string
	// read runs queries; it keeps each text prepared, so there must be few.
	read() querier
	// write is a pool of connections that write.
	write() *sql.DB
	// begin starts a READ COMMITTED transaction, which on SQLite excludes other writers. The
	// caller calls end after it.
	begin(ctx context.Context) (tx *sql.Tx, end func(), err error)
	// exists reports whether there is a table of that name.
	exists(ctx context.Context, table string) (bool, error)
	migrator(files fs.FS) (*goose.Provider, error)
	// parsedJSON is the expression of a column with JSON text to which ->> applies.
	parsedJSON(column string) string
	// whileMigrating runs migrate while no other node migrates.
	whileMigrating(ctx context.Context, migrate func() error) error
	// tickets runs a query that selects ticketColumns.
	tickets(ctx context.Context, query string, args ...any) ([]storage.Ticket, error)
	// userValidity runs the query userValidity; nil: there is no such user.
	userValidity(ctx context.Context, id string) (*validityRow, error)
	// batch runs f in one transaction and commits what it did, unless it returns an error.
	// It waits for a lock as long as lockWait. If the outcome of the commit itself is not
	// known, the error is a *commitError.
	batch(ctx context.Context, lockWait time.Duration, f func(pipeline) error) error
	// settle finds out whether a commit took effect whose outcome was not known; an error
	// means that it is not known still.
	settle(ctx context.Context, failed *commitError) (committed bool, err error)
	// lanes is how many batches may run at the same time.
	lanes() int
	// alone reports whether a batch excludes every other writer while it runs.
	alone() bool
	// forUpdate ends a query whose rows nobody else may change until the transaction ends.
	forUpdate() string
	// refused reports whether an error is the database's answer to a statement, so that
	// others may still pass; retryable, whether the same may pass when it is tried again.
	refused(err error) bool
	retryable(err error) bool
	// patience bounds the waits for locks in a transaction.
	patience(ctx context.Context, tx *sql.Tx) error
	// noticed returns err, after it has drawn conclusions about the other connections.
	noticed(err error) error
	// locked reports whether a statement waited for a lock as long as it may.
	locked(err error) bool

	ping(ctx context.Context) error
	close() error
}

// pipeline is the transaction of a batch.
type pipeline interface {
	// exec runs statements in order and returns how many rows each of them changed.
	exec(statements []statement) ([]int64, error)
	// keys runs a query that selects kind and id.
	keys(s statement) ([]storage.Key, error)
}

// statement is a query with its arguments.
type statement struct {
	query string
	args  []any
}

// commitError is the failure of a commit that may have taken effect.
type commitError struct {
	err error
	transaction
}

func (e *commitError) Error() string { return "commit: " + e.err.Error() }
func (e *commitError) Unwrap() error { return e.err }

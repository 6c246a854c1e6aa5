package sqldb

import (
	"context"
	"database/sql"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// database is what SQLite and PostgreSQL do differently. Both run the same queries.
type database interface {
	// name returns the directory of the migrations.
	name() string
	// read runs queries. It keeps each prepared by its text, so there must be few texts.
	read() querier
	// write returns a pool of connections that write.
	write() *sql.DB
	// begin starts a READ COMMITTED transaction, which on SQLite excludes other writers. The
	// caller calls end after it.
	begin(ctx context.Context) (tx *sql.Tx, end func(), err error)
	// exists reports whether there is a table of that name.
	exists(ctx context.Context, table string) (bool, error)
	migrator(files fs.FS) (*goose.Provider, error)
	// parsedJSON returns an expression for a column with JSON text, to which ->> applies.
	parsedJSON(column string) string
	// whileMigrating calls migrate while no other node migrates.
	whileMigrating(ctx context.Context, migrate func() error) error
	// tickets runs a query that selects ticketColumns.
	tickets(ctx context.Context, query string, args ...any) ([]storage.Ticket, error)
	// ticketsByKey returns the live tickets with some keys, at most maxKeys. at is now in milliseconds.
	ticketsByKey(ctx context.Context, at int64, keys ...storage.Key) ([]storage.Ticket, error)
	// grant returns the grant of a user to a client; nil if there is none.
	grant(ctx context.Context, subject, clientID string) (*record.Grant, error)
	// find runs findGrantAndTicket.
	find(ctx context.Context, f *finding) error
	// userChanges returns the IDs of users that have changed since a mark, at most most, and the
	// next mark. It returns no IDs if since is noMark.
	userChanges(ctx context.Context, since int64, most int) (next int64, ids []string, err error)
	// reclaimUserChanges returns a statement that deletes at most $2 changes that are more than
	// $1 milliseconds old by the clock of the database.
	reclaimUserChanges() string
	// batch calls f in one transaction and commits, unless f returns an error. It waits for a
	// lock at most for lockWait. If it does not know whether the commit took effect, the error
	// is a *commitError.
	batch(ctx context.Context, lockWait time.Duration, f func(pipeline) error) error
	// settle finds out whether a failed commit took effect. An error means that this is still
	// not known.
	settle(ctx context.Context, failed *commitError) (committed bool, err error)
	// lanes returns how many batches may run at the same time.
	lanes() int
	// alone reports whether a batch excludes every other writer while it runs.
	alone() bool
	// lockAdministrators makes other transactions that call it wait until this one ends.
	lockAdministrators(ctx context.Context, tx *sql.Tx) error
	// forUpdate returns the end of a query that locks its rows until the transaction ends.
	forUpdate() string
	// forUpdateUnlessLocked is forUpdate for a query that leaves out rows that others have locked.
	forUpdateUnlessLocked() string
	// refused reports whether the database rejected a statement, so that others may still
	// succeed; retryable reports whether the same statement may succeed when it is tried again.
	refused(err error) bool
	retryable(err error) bool
	// patience limits how long a transaction waits for a lock.
	patience(ctx context.Context, tx *sql.Tx) error
	// noticed returns err, and closes other connections if the error means that they are unusable.
	noticed(err error) error
	// locked reports whether a statement waited for a lock until its time was over.
	locked(err error) bool

	// size returns the size of the database in bytes.
	size(ctx context.Context) (int64, error)
	ping(ctx context.Context) error
	close() error
}

// pipeline is the transaction of a batch.
type pipeline interface {
	// change runs changes in order and sets done of each.
	change(changes []*change) error
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

package sqldb

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"
	zombiezen "zombiezen.com/go/sqlite"

	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

const (
	// sqliteConnections is how many connections read at the same time.
	sqliteConnections = 4
	// sqliteBusyTimeout is how long a statement waits for a lock of another process.
	sqliteBusyTimeout = 10 * time.Second
)

// sqlite is a database in one file. One connection writes at a time; others read at the same time,
// from the write-ahead log.
//
// Reads and batches use separate connections, without database/sql (decision 0012). Transactions
// that change records use database/sql, with the same code as PostgreSQL.
type sqlite struct {
	writer, reader *sql.DB
	uri            string
	path           string // of the file; "" in memory
	readers        *sqliteReaders

	// writing is held by the transaction that writes. SQLite has a lock, too, but waits for it
	// by polling, so that a transaction could starve behind batches.
	writing chan struct{}
	batches *sqliteConn // opened by the first batch

	memory *rowMemory // nil for a database in memory

	mu       sync.Mutex
	prepared map[string]*sql.Stmt // on reader
}

// openSQLite opens path, or, for ":memory:", a database that ends with the store.
func openSQLite(path string, logger *slog.Logger) (*sqlite, error) {
	limitPageCache()
	d := &sqlite{prepared: map[string]*sql.Stmt{}, writing: make(chan struct{}, 1)}
	settings := url.Values{"_pragma": {"busy_timeout(10000)", "foreign_keys(1)"}, "_txlock": {"immediate"}}
	if path == ":memory:" {
		// All connections of the process share a database whose name begins with a slash.
		d.uri = "file:/valetkey-" + rand.Text() + "?vfs=memdb"
		settings["_pragma"] = append(settings["_pragma"], "journal_mode(MEMORY)")
	} else {
		path, err := filepath.Abs(path)
		if err != nil {
			return nil, fmt.Errorf("open database: %w", err)
		}
		if err := restrictFiles(path, logger); err != nil {
			return nil, fmt.Errorf("open database: %w", err)
		}
		d.path = path
		d.uri = (&url.URL{Scheme: "file", Path: path}).String() + "?"
		// FULL waits for the disk at each commit; NORMAL could lose the last commits in a power
		// failure.
		settings["_pragma"] = append(settings["_pragma"], "journal_mode(WAL)", "synchronous(FULL)", "wal_autocheckpoint(4000)", fmt.Sprintf("cache_size(%d)", recordPages))
	}
	var err error
	if d.writer, err = sql.Open("sqlite", d.uri+"&"+settings.Encode()); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	d.writer.SetMaxOpenConns(1)
	settings = url.Values{"_pragma": {"busy_timeout(10000)", "query_only(1)", fmt.Sprintf("cache_size(%d)", recordPages)}}
	if d.reader, err = sql.Open("sqlite", d.uri+"&"+settings.Encode()); err != nil {
		d.writer.Close()
		return nil, fmt.Errorf("open database: %w", err)
	}
	d.reader.SetMaxOpenConns(sqliteConnections)
	d.reader.SetMaxIdleConns(1)
	d.readers = newSQLiteReaders(d.uri, sqliteConnections)
	if d.path != "" {
		d.memory = &rowMemory{uri: d.uri}
	}
	return d, nil
}

// restrictFiles creates the file if there is none, and makes it and the files that SQLite keeps
// next to it inaccessible to other users. SQLite gives new files the mode of the database.
func restrictFiles(path string, logger *slog.Logger) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is not a regular file", name)
		}
		if info.Mode().Perm()&0o077 != 0 {
			logger.Warn("database file was readable by other users; mode changed to 0600", "file", name, "mode", info.Mode().Perm().String())
			if err := os.Chmod(name, 0o600); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *sqlite) name() string { return "sqlite" }

func (*sqlite) parsedJSON(column string) string { return column }
func (d *sqlite) read() querier                 { return preparedReader{d} }
func (d *sqlite) write() *sql.DB                { return d.writer }
func (d *sqlite) alone() bool                   { return true }
func (d *sqlite) lanes() int                    { return 1 }

// forUpdate is not needed: no other transaction writes at the same time.
func (d *sqlite) forUpdate() string { return "" }

// lockAdministrators needs no lock: a transaction excludes other writers.
func (d *sqlite) lockAdministrators(context.Context, *sql.Tx) error { return nil }

func (d *sqlite) forUpdateUnlessLocked() string { return "" }

// refused reports almost every error: running the operations one by one costs little here.
func (d *sqlite) refused(err error) bool {
	var failed *commitError
	var waited *beginError
	return !errors.As(err, &failed) && !errors.As(err, &waited)
}

func (d *sqlite) retryable(error) bool { return false }
func (d *sqlite) locked(error) bool    { return false }

func (d *sqlite) noticed(err error) error { return err }

// patience does nothing: the connection has a busy_timeout.
func (d *sqlite) patience(context.Context, *sql.Tx) error { return nil }

// whileMigrating needs no lock: each migration is a transaction that excludes other writers.
func (d *sqlite) whileMigrating(_ context.Context, migrate func() error) error { return migrate() }

func (d *sqlite) exists(ctx context.Context, table string) (bool, error) {
	var n int
	err := d.reader.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = $1`, table).Scan(&n)
	return n > 0, err
}

func (d *sqlite) migrator(files fs.FS) (*goose.Provider, error) {
	return goose.NewProvider(goose.DialectSQLite3, d.writer, files, goose.WithDisableGlobalRegistry(true))
}

func (d *sqlite) ping(ctx context.Context) error {
	var version int64
	return d.reader.QueryRowContext(ctx, `SELECT version FROM issuer WHERE id = 1`).Scan(&version)
}

func (d *sqlite) close() error {
	err := errors.Join(d.readers.close(), d.reader.Close(), d.memory.close())
	if d.batches != nil {
		err = errors.Join(err, d.batches.conn.Close())
	}
	return errors.Join(err, d.writer.Close())
}

func (d *sqlite) tickets(ctx context.Context, query string, args ...any) (found []storage.Ticket, err error) {
	err = d.readers.query(ctx, func(stmt *zombiezen.Stmt) error {
		t, err := ticketOf(stmt, 0)
		found = append(found, t)
		return err
	}, query, args...)
	return found, err
}

func (d *sqlite) ticketsByKey(ctx context.Context, at int64, keys ...storage.Key) (found []storage.Ticket, err error) {
	version, keeps := d.memory.begin()
	if keeps {
		if found, ok := d.memory.tickets(&version, at, keys); ok {
			return found, ctx.Err()
		}
	}
	args := make([]any, 0, 3*len(keys))
	for i := range keys {
		args = append(args, string(keys[i].Kind), keys[i].ID[:], at)
	}
	found, err = d.tickets(ctx, getTickets[len(keys)-1], args...)
	if err == nil && keeps {
		d.memory.keepTickets(&version, at, keys, found)
	}
	return found, err
}

func (d *sqlite) grant(ctx context.Context, subject, clientID string) (found *record.Grant, err error) {
	version, keeps := d.memory.begin()
	if keeps {
		if g := d.memory.grant(&version, grantOf{subject, clientID}); g != nil {
			return g, ctx.Err()
		}
	}
	err = d.readers.query(ctx, func(stmt *zombiezen.Stmt) error {
		g, err := scanGrant(sqliteRow{stmt})
		found = &g
		return err
	}, selectGrant, subject, clientID)
	if err == nil && found != nil && keeps {
		d.memory.keepGrant(&version, found)
	}
	return found, err
}

const (
	sqliteUserMark    = `SELECT coalesce(max(seq), 0) FROM user_changes`
	sqliteUserChanges = `SELECT seq, user_id FROM user_changes WHERE seq > $1 ORDER BY seq LIMIT $2`
)

func (d *sqlite) userChanges(ctx context.Context, since int64, most int) (next int64, ids []string, err error) {
	if since == noMark {
		err = d.readers.query(ctx, func(stmt *zombiezen.Stmt) error {
			next = stmt.ColumnInt64(0)
			return nil
		}, sqliteUserMark)
		return next, nil, err
	}
	next = since
	err = d.readers.query(ctx, func(stmt *zombiezen.Stmt) error {
		next, ids = stmt.ColumnInt64(0), append(ids, stmt.ColumnText(1))
		return nil
	}, sqliteUserChanges, since, most)
	return next, ids, err
}

func (*sqlite) reclaimUserChanges() string {
	return `DELETE FROM user_changes WHERE seq IN (SELECT seq FROM user_changes WHERE changed < 1000 * unixepoch() - $1 LIMIT $2)`
}

// preparedReader keeps prepared statements: SQLite takes longer to parse a query than to run it.
type preparedReader struct{ d *sqlite }

// QueryContext implements querier.
func (r preparedReader) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	stmt, err := r.d.statement(ctx, query)
	if err != nil {
		return nil, err
	}
	return stmt.QueryContext(context.WithoutCancel(ctx), args...)
}

// QueryRowContext implements querier.
func (r preparedReader) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	stmt, err := r.d.statement(ctx, query)
	if err != nil { // run the query anyway, for a row that contains the error
		return r.d.reader.QueryRowContext(ctx, query, args...)
	}
	return stmt.QueryRowContext(context.WithoutCancel(ctx), args...)
}

func (d *sqlite) statement(ctx context.Context, query string) (*sql.Stmt, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	stmt, ok := d.prepared[query]
	if ok {
		return stmt, nil
	}
	stmt, err := d.reader.PrepareContext(context.WithoutCancel(ctx), query)
	if err != nil {
		return nil, err
	}
	d.prepared[query] = stmt
	return stmt, nil
}

// settle cannot find out more: it returns the failed commit.
func (d *sqlite) settle(_ context.Context, failed *commitError) (bool, error) { return false, failed }

// begin waits until no batch is running, and makes others wait until end is called.
func (d *sqlite) begin(ctx context.Context) (tx *sql.Tx, end func(), err error) {
	select {
	case d.writing <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	end = func() { <-d.writing }
	if tx, err = d.writer.BeginTx(ctx, nil); err != nil {
		end()
		return nil, nil, err
	}
	return tx, end, nil
}

// beginError means that a batch could not begin, because another transaction did not end in time.
// None of its operations has run, and another try would wait as long.
type beginError struct{ err error }

func (e *beginError) Error() string { return "begin: " + e.err.Error() }
func (e *beginError) Unwrap() error { return e.err }

var errWriting = fmt.Errorf("%w: another transaction of this process is writing", storage.ErrUnavailable)

func (d *sqlite) batch(_ context.Context, _ time.Duration, f func(pipeline) error) (err error) {
	patience := time.NewTimer(sqliteBusyTimeout)
	defer patience.Stop()
	select {
	case d.writing <- struct{}{}:
		defer func() { <-d.writing }()
	case <-patience.C:
		return &beginError{errWriting}
	}
	if d.batches == nil {
		if d.batches, err = openSQLiteConn(d.uri, "foreign_keys = 1", "synchronous = FULL", "wal_autocheckpoint = 4000", fmt.Sprintf("cache_size = %d", batchPages)); err != nil {
			return &beginError{fmt.Errorf("open database: %w", err)}
		}
	}
	c := d.batches
	if _, err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return &beginError{err}
	}
	p := &sqlitePipeline{conn: c, memory: d.memory.beginBatch()}
	committed := false
	defer func() { p.memory.end(committed) }()
	if err := f(p); err != nil {
		return errors.Join(err, d.rollBack())
	}
	if _, err := c.exec("COMMIT"); err != nil {
		return &commitError{err: errors.Join(err, d.rollBack())}
	}
	committed = true
	return nil
}

// rollBack ends the transaction of a batch, unless SQLite has ended it already.
func (d *sqlite) rollBack() error {
	if d.batches.conn.AutocommitEnabled() {
		return nil
	}
	_, err := d.batches.exec("ROLLBACK")
	return err
}

type sqlitePipeline struct {
	conn   *sqliteConn
	memory batchMemory
}

func (p *sqlitePipeline) change(changes []*change) error {
	for _, c := range changes {
		p.memory.keys = append(p.memory.keys, c.ticket.Key)
		if err := p.conn.change(c); err != nil {
			return err
		}
		p.memory.changed = p.memory.changed || c.done
	}
	return nil
}

func (p *sqlitePipeline) exec(statements []statement) ([]int64, error) {
	changed := make([]int64, len(statements))
	for i, s := range statements {
		p.memory.note(s)
		var err error
		if changed[i], err = p.conn.exec(s.query, s.args...); err != nil {
			return nil, err
		}
		p.memory.changed = p.memory.changed || changed[i] > 0
	}
	return changed, nil
}

func (p *sqlitePipeline) keys(s statement) (keys []storage.Key, err error) {
	err = p.conn.query(func(stmt *zombiezen.Stmt) error {
		key, err := keyOf(stmt)
		keys = append(keys, key)
		return err
	}, s.query, s.args...)
	return keys, err
}

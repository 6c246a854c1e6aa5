package sqldb

import (
	"context"
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

	"github.com/valetkey/valetkey/storage"
)

// sqliteReaders is how many connections read at the same time.
const sqliteReaders = 4

// sqlite is a database in one file. One connection writes; others read beside it, from
// the write-ahead log.
type sqlite struct {
	writer, reader *sql.DB

	writing map[string]*sql.Stmt // batchQueries, prepared on writer

	mu       sync.Mutex
	prepared map[string]*sql.Stmt // on reader
}

// openSQLite opens path, or with ":memory:" a database that dies with the store.
func openSQLite(path string, logger *slog.Logger) (*sqlite, error) {
	d := &sqlite{prepared: map[string]*sql.Stmt{}, writing: map[string]*sql.Stmt{}}
	settings := url.Values{"_pragma": {"busy_timeout(10000)", "foreign_keys(1)"}, "_txlock": {"immediate"}}
	if path == ":memory:" {
		db, err := sql.Open("sqlite", "file::memory:?"+settings.Encode())
		if err != nil {
			return nil, fmt.Errorf("open database: %w", err)
		}
		db.SetMaxOpenConns(1)
		d.writer, d.reader = db, db
		return d, nil
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := restrictFiles(path, logger); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	file := (&url.URL{Scheme: "file", Path: path}).String()
	// FULL waits for the disk at each commit; NORMAL would lose the last ones with the
	// power.
	settings["_pragma"] = append(settings["_pragma"], "journal_mode(WAL)", "synchronous(FULL)", "wal_autocheckpoint(4000)", "cache_size(-4000)")
	if d.writer, err = sql.Open("sqlite", file+"?"+settings.Encode()); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	d.writer.SetMaxOpenConns(1)
	settings = url.Values{"_pragma": {"busy_timeout(10000)", "query_only(1)"}}
	if d.reader, err = sql.Open("sqlite", file+"?"+settings.Encode()); err != nil {
		d.writer.Close()
		return nil, fmt.Errorf("open database: %w", err)
	}
	d.reader.SetMaxOpenConns(sqliteReaders)
	d.reader.SetMaxIdleConns(sqliteReaders)
	return d, nil
}

// restrictFiles makes the file if there is none and takes it, and those that SQLite keeps
// beside it, from everybody else. New ones get the mode of the first from SQLite.
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
			return fmt.Errorf("%s is no regular file", name)
		}
		if info.Mode().Perm()&0o077 != 0 {
			logger.Warn("database file was open to other users; it is closed to them now", "file", name, "mode", info.Mode().Perm().String())
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

// forUpdate: no other transaction writes at the same time.
func (d *sqlite) forUpdate() string { return "" }

// refused: whatever fails is run again one by one; that costs little here.
func (d *sqlite) refused(err error) bool {
	var failed *commitError
	return !errors.As(err, &failed)
}

func (d *sqlite) retryable(error) bool { return false }
func (d *sqlite) locked(error) bool    { return false }

func (d *sqlite) noticed(err error) error { return err }

// patience is busy_timeout, of the connection.
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

func (d *sqlite) close() error { return errors.Join(d.reader.Close(), d.writer.Close()) }

func (d *sqlite) tickets(ctx context.Context, query string, args ...any) ([]storage.Ticket, error) {
	stmt, err := d.statement(ctx, query)
	if err != nil {
		return nil, err
	}
	// The driver would start a goroutine that waits for the end of ctx; a read that takes
	// microseconds does better without.
	rows, err := stmt.QueryContext(context.WithoutCancel(ctx), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []storage.Ticket
	for rows.Next() {
		var row ticketRow
		if err := rows.Scan(row.fields()...); err != nil {
			return nil, err
		}
		t, err := row.ticket()
		if err != nil {
			return nil, err
		}
		found = append(found, t)
	}
	return found, rows.Err()
}

// preparedReader reads by statements that are kept: SQLite takes longer to parse a query
// than to answer it.
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
	if err != nil { // the same query again, for a row that carries the error
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

// settle does not know more than the failed commit.
func (d *sqlite) settle(_ context.Context, failed *commitError) (bool, error) { return false, failed }

func (d *sqlite) batch(ctx context.Context, _ time.Duration, f func(pipeline) error) error {
	ctx = context.WithoutCancel(ctx)
	tx, err := d.writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(&sqlitePipeline{ctx, d, tx, map[string]*sql.Stmt{}}); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return &commitError{err: errors.Join(err, tx.Rollback())}
	}
	return nil
}

// prepare makes the statements of batches ready. It comes after the migrations.
func (d *sqlite) prepare(ctx context.Context) error {
	for _, query := range batchQueries {
		stmt, err := d.writer.PrepareContext(ctx, query)
		if err != nil {
			return fmt.Errorf("prepare statement: %w", err)
		}
		d.writing[query] = stmt
	}
	return nil
}

type sqlitePipeline struct {
	ctx      context.Context
	d        *sqlite
	tx       *sql.Tx
	prepared map[string]*sql.Stmt
}

func (p *sqlitePipeline) statement(query string) *sql.Stmt {
	stmt, ok := p.prepared[query]
	if !ok {
		stmt = p.tx.StmtContext(p.ctx, p.d.writing[query])
		p.prepared[query] = stmt
	}
	return stmt
}

func (p *sqlitePipeline) exec(statements []statement) ([]int64, error) {
	changed := make([]int64, len(statements))
	for i, s := range statements {
		result, err := p.statement(s.query).ExecContext(p.ctx, s.args...)
		if err != nil {
			return nil, err
		}
		if changed[i], err = result.RowsAffected(); err != nil {
			return nil, err
		}
	}
	return changed, nil
}

func (p *sqlitePipeline) keys(s statement) ([]storage.Key, error) {
	rows, err := p.statement(s.query).QueryContext(p.ctx, s.args...)
	if err != nil {
		return nil, err
	}
	return all(rows, func(rows *sql.Rows) (storage.Key, error) { return scanKey(rows) })
}

package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	zombiezen "zombiezen.com/go/sqlite"
)

// Inspection describes a database and how it is operated.
type Inspection struct {
	// PostgreSQL is false for SQLite.
	PostgreSQL bool
	// Version is the version of the database system, and VersionNumber, for PostgreSQL, its
	// server_version_num, such as 150018.
	Version       string
	VersionNumber int
	// Latency is the time of a query that does nothing, the median of several.
	Latency time.Duration
	// SchemaVersion is the version of the newest migration in the database, 0 in an empty one, and
	// KnownVersion the newest that this program has.
	SchemaVersion, KnownVersion int64

	// File is the path of a SQLite database. JournalMode is its mode, such as "wal".
	File, JournalMode string

	// The rest is about PostgreSQL. Settings are those that durability depends on, by name.
	Settings map[string]string
	// Pooled says that a connection pooler is in between, and NoTransactions why it allows no
	// transactions; "" if it does.
	Pooled         bool
	NoTransactions string
	// Standby says that the database cannot be written to.
	Standby bool
	// Time is the clock of the database, when Received was that of this program.
	Time, Received time.Time
	// Connections is how many connections the server has, of MaxConnections.
	Connections, MaxConnections int
}

// inspectedSettings are in Inspection.Settings.
var inspectedSettings = []string{"fsync", "full_page_writes", "synchronous_commit", "max_connections", "server_version_num", "server_version", "transaction_read_only"}

// Inspect describes a database without changing it: it applies no migration, and creates no file. No
// error contains the URL's password.
func Inspect(ctx context.Context, databaseURL string, insecure bool) (*Inspection, error) {
	known, err := knownVersion(databaseURL)
	if err != nil {
		return nil, err
	}
	var i *Inspection
	if path, ok := strings.CutPrefix(databaseURL, "sqlite:"); ok {
		i, err = inspectSQLite(ctx, path)
	} else {
		i, err = inspectPostgreSQL(ctx, databaseURL, insecure)
	}
	if err != nil {
		return nil, fmt.Errorf("inspect database: %w", err)
	}
	i.KnownVersion = known
	return i, nil
}

// knownVersion returns the version of the newest migration in this program.
func knownVersion(databaseURL string) (known int64, err error) {
	dir := "migrations/postgres"
	if strings.HasPrefix(databaseURL, "sqlite:") {
		dir = "migrations/sqlite"
	}
	files, err := fs.ReadDir(migrations, dir)
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		number, _, _ := strings.Cut(f.Name(), "_")
		if version, err := strconv.ParseInt(number, 10, 64); err == nil {
			known = max(known, version)
		}
	}
	return known, nil
}

const (
	selectSchemaVersion = `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`
	latencySamples      = 5
)

// median returns the median time of f.
func median(f func() error) (time.Duration, error) {
	var took []time.Duration
	for range latencySamples {
		began := time.Now()
		if err := f(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

// openToInspect opens an existing database to read it.
func openToInspect(databaseURL string, insecure bool) (*sql.DB, error) {
	if path, ok := strings.CutPrefix(databaseURL, "sqlite:"); ok {
		return openFile(path, "query_only(1)")
	}
	config, err := postgreSQLConfig(databaseURL, insecure)
	if err != nil {
		return nil, err
	}
	// A pooler may give each statement another connection, which does not know prepared statements.
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	return stdlib.OpenDB(*config.ConnConfig), nil
}

func inspectSQLite(ctx context.Context, path string) (i *Inspection, err error) {
	if path == ":memory:" {
		return &Inspection{JournalMode: "memory", File: path}, nil
	}
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	uri := (&url.URL{Scheme: "file", Path: path}).String()
	conn, err := zombiezen.OpenConn(uri, zombiezen.OpenReadOnly|zombiezen.OpenURI)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	conn.SetBusyTimeout(readTimeout)
	conn.SetInterrupt(ctx.Done())
	c, i := &sqliteConn{conn}, &Inspection{File: path}
	text := func(to *string) func(*zombiezen.Stmt) error {
		return func(stmt *zombiezen.Stmt) error {
			*to = stmt.ColumnText(0)
			return nil
		}
	}
	if err := c.query(text(&i.Version), `SELECT sqlite_version()`); err != nil {
		return nil, err
	}
	if err := c.query(text(&i.JournalMode), `PRAGMA journal_mode`); err != nil {
		return nil, err
	}
	// Unlike SELECT 1, this reads the file.
	if i.Latency, err = median(func() error {
		return c.query(func(*zombiezen.Stmt) error { return nil }, `SELECT count(*) FROM sqlite_master`)
	}); err != nil {
		return nil, err
	}
	var tables string
	if err := c.query(text(&tables), `SELECT count(*) FROM sqlite_master WHERE name = 'goose_db_version'`); err != nil || tables == "0" {
		return i, err
	}
	err = c.query(func(stmt *zombiezen.Stmt) error {
		i.SchemaVersion = stmt.ColumnInt64(0)
		return nil
	}, selectSchemaVersion)
	return i, err
}

func inspectPostgreSQL(ctx context.Context, databaseURL string, insecure bool) (i *Inspection, err error) {
	config, err := postgreSQLConfig(databaseURL, insecure)
	if err != nil {
		return nil, err
	}
	// A pooler may give each statement another connection, which does not know prepared statements.
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	i = &Inspection{PostgreSQL: true, Settings: map[string]string{}}
	if i.Pooled, err = behindPooler(ctx, conn); err != nil {
		return nil, err
	}
	if i.Latency, err = median(func() error {
		_, err := conn.Exec(ctx, `SELECT 1`)
		return err
	}); err != nil {
		return nil, err
	}
	rows, err := conn.Query(ctx, `SELECT name, setting FROM pg_settings WHERE name = ANY($1)`, inspectedSettings)
	if err != nil {
		return nil, err
	}
	var name, setting string
	if _, err := pgx.ForEachRow(rows, []any{&name, &setting}, func() error {
		i.Settings[name] = setting
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	i.Version = i.Settings["server_version"]
	i.VersionNumber, _ = strconv.Atoi(i.Settings["server_version_num"]) // both are numbers
	i.MaxConnections, _ = strconv.Atoi(i.Settings["max_connections"])
	var exists bool
	err = conn.QueryRow(ctx, `SELECT clock_timestamp(), pg_is_in_recovery(), to_regclass('goose_db_version') IS NOT NULL,
		(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' OR backend_type IS NULL)`).
		Scan(&i.Time, &i.Standby, &exists, &i.Connections)
	i.Received = time.Now()
	if err != nil {
		return nil, fmt.Errorf("read the state of the server: %w", err)
	}
	i.Standby = i.Standby || i.Settings["transaction_read_only"] == "on"
	if exists {
		if err := conn.QueryRow(ctx, selectSchemaVersion).Scan(&i.SchemaVersion); err != nil {
			return nil, fmt.Errorf("read schema version: %w", err)
		}
	}
	if _, err := conn.Exec(ctx, `BEGIN`); err != nil {
		i.NoTransactions = err.Error()
		return i, nil
	}
	_, err = conn.Exec(ctx, `ROLLBACK`)
	return i, err
}

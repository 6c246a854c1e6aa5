package sqldb

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Migration is a change of the schema.
type Migration struct {
	Version int64
	Name    string // such as "0012_user_changes"
	SQL     string
	// Locks are those that the migration holds until it is committed. The tables that it creates
	// are not among them.
	Locks []Lock
	// Took is how long the migration takes; zero if that was not measured.
	Took time.Duration
}

// Lock is a lock on a table that already exists.
type Lock struct {
	Table string // "" for the whole database
	Mode  string // PostgreSQL's name, such as "SHARE", or "WRITE" in SQLite
	// Waits says what waits meanwhile: "reads and writes", "writes", or "".
	Waits string
	// Bytes is the size of the table with its indexes.
	Bytes int64
	// Indexes are those that are built on the table, which takes time in proportion to its size.
	Indexes []string
	// Rewritten means that the whole table is written again.
	Rewritten bool
}

// Pending is what Open would do to the schema of a database.
type Pending struct {
	Migrations []Migration
	// LocksUnknown says why Locks is empty in every migration, if it is.
	LocksUnknown error
}

// PendingMigrations returns the migrations that Open would apply, without applying them. It
// rehearses them where they disturb nobody: on PostgreSQL in a schema of its own, with the same
// tables without rows, which it removes again; on SQLite on a copy of the file. It returns an error if
// the database is newer than this program. It needs no master key.
func PendingMigrations(ctx context.Context, databaseURL string, insecureConnection bool) (Pending, error) {
	scheme, rest, _ := strings.Cut(databaseURL, ":")
	switch {
	case databaseURL == "sqlite::memory:":
		return Pending{}, errors.New("find migrations: the database is in memory")
	case scheme == "sqlite":
		return pendingSQLite(ctx, rest)
	default:
		return pendingPostgreSQL(ctx, databaseURL, insecureConnection)
	}
}

// migrationsOf returns the migrations of this program in order, for the database of that name.
func migrationsOf(database string) ([]Migration, error) {
	files, err := fs.Glob(migrations, "migrations/"+database+"/*.sql")
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	var all []Migration
	for _, file := range files {
		text, err := fs.ReadFile(migrations, file)
		if err != nil {
			return nil, fmt.Errorf("read migrations: %w", err)
		}
		m := Migration{Name: strings.TrimSuffix(path.Base(file), ".sql"), SQL: plainSQL(string(text))}
		number, _, _ := strings.Cut(m.Name, "_")
		if m.Version, err = strconv.ParseInt(number, 10, 64); err != nil {
			return nil, fmt.Errorf("read migrations: %s: %w", file, err)
		}
		all = append(all, m)
	}
	return all, nil
}

// plainSQL removes the annotations of a migration file. It has no part for the way back.
func plainSQL(text string) string {
	var lines strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "-- +goose ") {
			lines.WriteString(line)
		}
	}
	return strings.TrimSpace(lines.String()) + "\n"
}

// checkSchema rejects a database that is newer than the program.
func checkSchema(stored, known int64) error {
	if stored > known {
		return fmt.Errorf("the database has schema version %d, but this program knows versions up to %d only: a newer valetkey migrated it; start that version", stored, known)
	}
	return nil
}

const storedVersion = `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`

// split divides migrations into those that a database has and those that it does not have.
func split(all []Migration, stored int64) (applied, pending []Migration, err error) {
	if err := checkSchema(stored, all[len(all)-1].Version); err != nil {
		return nil, nil, err
	}
	i := slices.IndexFunc(all, func(m Migration) bool { return m.Version > stored })
	if i < 0 {
		i = len(all)
	}
	return all[:i], all[i:], nil
}

func pendingSQLite(ctx context.Context, file string) (result Pending, err error) {
	all, err := migrationsOf("sqlite")
	if err != nil {
		return Pending{}, err
	}
	stored, err := versionOfSQLite(ctx, file)
	if err != nil {
		return Pending{}, fmt.Errorf("find migrations: %w", err)
	}
	_, pending, err := split(all, stored)
	if err != nil || len(pending) == 0 {
		return Pending{}, err
	}
	// The copy is next to the database: others cannot read that directory, and it is on a disk of
	// the same speed.
	directory, err := os.MkdirTemp(filepath.Dir(file), filepath.Base(file)+".dry-run-*")
	if err != nil {
		return Pending{}, fmt.Errorf("rehearse migrations: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(directory)) }()
	copied := filepath.Join(directory, "valetkey.db")
	if err := BackUp(ctx, file, copied, nil); err != nil {
		return Pending{}, fmt.Errorf("rehearse migrations: %w", err)
	}
	info, err := os.Stat(copied)
	if err != nil {
		return Pending{}, fmt.Errorf("rehearse migrations: %w", err)
	}
	db, err := openFile(copied, "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)")
	if err != nil {
		return Pending{}, fmt.Errorf("rehearse migrations: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for i := range pending {
		m := &pending[i]
		began := time.Now()
		if err := inOneTransaction(ctx, db, m.SQL); err != nil {
			return Pending{}, fmt.Errorf("rehearse %s: %w", m.Name, err)
		}
		m.Took = time.Since(began)
		m.Locks = []Lock{{Mode: "WRITE", Waits: "writes", Bytes: info.Size()}}
	}
	return Pending{Migrations: pending}, err
}

func inOneTransaction(ctx context.Context, db *sql.DB, query string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, query); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// versionOfSQLite returns the schema version of a database, and does not change it.
func versionOfSQLite(ctx context.Context, file string) (version int64, err error) {
	db, err := openFile(file, "query_only(1)")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var tables int
	if err := db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'goose_db_version'`).Scan(&tables); err != nil || tables == 0 {
		return 0, err
	}
	return version, db.QueryRowContext(ctx, storedVersion).Scan(&version)
}

const (
	// rehearsalSchema has the tables on which PostgreSQL's locks are observed.
	rehearsalSchema = "valetkey_dry_run"
	// rehearsalLock is the number of the advisory lock of a program that uses it.
	rehearsalLock = migrationLock + 1
)

func pendingPostgreSQL(ctx context.Context, databaseURL string, insecure bool) (result Pending, err error) {
	all, err := migrationsOf("postgres")
	if err != nil {
		return Pending{}, err
	}
	config, err := postgreSQLConfig(databaseURL, insecure)
	if err != nil {
		return Pending{}, err
	}
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec // it may be behind a pooler
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return Pending{}, fmt.Errorf("find migrations: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	var exists bool
	if err := conn.QueryRow(ctx, `SELECT to_regclass('goose_db_version') IS NOT NULL`).Scan(&exists); err != nil {
		return Pending{}, fmt.Errorf("find migrations: %w", err)
	}
	var stored int64
	if exists {
		if err := conn.QueryRow(ctx, storedVersion).Scan(&stored); err != nil {
			return Pending{}, fmt.Errorf("find migrations: %w", err)
		}
	}
	applied, pending, err := split(all, stored)
	if err != nil || len(pending) == 0 {
		return Pending{}, err
	}
	err = rehearse(ctx, config.ConnConfig, conn, applied, pending)
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "42501" { // insufficient_privilege
		return Pending{Migrations: pending, LocksUnknown: fmt.Errorf("the role cannot create a schema to try them in: %w", err)}, nil
	}
	return Pending{Migrations: pending}, err
}

// rehearse applies migrations in a schema of its own and sets Locks. A lock on a table is seen only
// by a transaction that did not create the table, so the schema is committed, and removed at the end.
func rehearse(ctx context.Context, config *pgx.ConnConfig, conn *pgx.Conn, applied, pending []Migration) (err error) {
	sizes, err := tableSizes(ctx, conn)
	if err != nil {
		return fmt.Errorf("read the sizes of tables: %w", err)
	}
	alone, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("rehearse migrations: %w", err)
	}
	defer func() { err = errors.Join(err, alone.Close(context.WithoutCancel(ctx))) }()
	return pgx.BeginFunc(ctx, alone, func(tx pgx.Tx) (err error) {
		var first bool
		if err := tx.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock($1)`, int64(rehearsalLock)).Scan(&first); err != nil {
			return fmt.Errorf("rehearse migrations: %w", err)
		}
		if !first {
			return errors.New("rehearse migrations: another dry run uses this database at the moment")
		}
		baseline := []string{`DROP SCHEMA IF EXISTS ` + rehearsalSchema + ` CASCADE`, `CREATE SCHEMA ` + rehearsalSchema, rehearsalPath}
		for _, m := range applied {
			baseline = append(baseline, m.SQL)
		}
		defer func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), transactTimeout)
			defer cancel()
			if dropped := execAll(ctx, conn, `DROP SCHEMA IF EXISTS `+rehearsalSchema+` CASCADE`); dropped != nil {
				err = errors.Join(err, fmt.Errorf("remove the schema %s: %w", rehearsalSchema, dropped))
			}
		}()
		if err := execAll(ctx, conn, baseline...); err != nil {
			return fmt.Errorf("create the schema %s: %w", rehearsalSchema, err)
		}
		for i := range pending {
			m := &pending[i]
			if err := m.observe(ctx, conn, sizes); err != nil {
				return fmt.Errorf("rehearse %s: %w", m.Name, err)
			}
		}
		return nil
	})
}

const rehearsalPath = `SET LOCAL search_path = ` + rehearsalSchema

// execAll runs queries, each of which may be several statements, in one transaction.
func execAll(ctx context.Context, conn *pgx.Conn, queries ...string) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, query := range queries {
			if _, err := tx.Conn().PgConn().Exec(ctx, query).ReadAll(); err != nil {
				return err
			}
		}
		return nil
	})
}

// observe applies a migration in the schema of the rehearsal, and notes the locks that it holds
// before it is committed.
func (m *Migration) observe(ctx context.Context, conn *pgx.Conn, sizes map[string]int64) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		before, err := tablesOf(ctx, tx)
		if err != nil {
			return err
		}
		for _, query := range []string{rehearsalPath, m.SQL} {
			if _, err := tx.Conn().PgConn().Exec(ctx, query).ReadAll(); err != nil {
				return err
			}
		}
		after, err := tablesOf(ctx, tx)
		if err != nil {
			return err
		}
		locked, err := lockedTables(ctx, tx)
		if err != nil {
			return err
		}
		for table, mode := range locked {
			was, existed := before[table]
			if !existed {
				continue
			}
			lock := Lock{Table: table, Mode: lockModes[mode], Waits: waits(mode), Bytes: sizes[table], Rewritten: was.file != after[table].file}
			for _, index := range after[table].indexes {
				if !slices.Contains(was.indexes, index) {
					lock.Indexes = append(lock.Indexes, index)
				}
			}
			m.Locks = append(m.Locks, lock)
		}
		slices.SortFunc(m.Locks, func(a, b Lock) int { return cmp.Compare(a.Table, b.Table) })
		return nil
	})
}

// rehearsedTable is a table of the rehearsal, with the file that has its rows.
type rehearsedTable struct {
	file    uint32
	indexes []string
}

func tablesOf(ctx context.Context, tx pgx.Tx) (map[string]rehearsedTable, error) {
	rows, err := tx.Query(ctx, `SELECT c.relname, c.relfilenode, coalesce(string_agg(i.relname, ' ' ORDER BY i.relname), '') FROM pg_class c
		LEFT JOIN pg_index x ON x.indrelid = c.oid LEFT JOIN pg_class i ON i.oid = x.indexrelid
		WHERE c.relkind = 'r' AND c.relnamespace = CAST($1 AS regnamespace) GROUP BY c.oid`, rehearsalSchema)
	if err != nil {
		return nil, err
	}
	tables := map[string]rehearsedTable{}
	var name, indexes string
	var file uint32
	_, err = pgx.ForEachRow(rows, []any{&name, &file, &indexes}, func() error {
		tables[name] = rehearsedTable{file, strings.Fields(indexes)}
		return nil
	})
	return tables, err
}

// lockModes are PostgreSQL's table locks, from the weakest to the strongest, as pg_locks and as the
// documentation name them. An ACCESS SHARE lock, which every query has, is not of interest.
var lockModes = []string{"", "ROW SHARE", "ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE", "SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE"}

func waits(mode int) string {
	switch {
	case lockModes[mode] == "ACCESS EXCLUSIVE":
		return "reads and writes"
	case mode >= slices.Index(lockModes, "SHARE"):
		return "writes"
	default:
		return ""
	}
}

// lockedTables returns the strongest lock that a transaction has on each table, as an index of
// lockModes.
func lockedTables(ctx context.Context, tx pgx.Tx) (map[string]int, error) {
	rows, err := tx.Query(ctx, `SELECT c.relname, l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
		WHERE l.pid = pg_backend_pid() AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
		AND c.relkind = 'r' AND c.relnamespace = CAST($1 AS regnamespace)`, rehearsalSchema)
	if err != nil {
		return nil, err
	}
	locked := map[string]int{}
	var name, mode string
	_, err = pgx.ForEachRow(rows, []any{&name, &mode}, func() error {
		strength := slices.IndexFunc(lockModes, func(m string) bool {
			return m != "" && strings.EqualFold(strings.ReplaceAll(m, " ", "")+"Lock", mode)
		})
		if strength > 0 {
			locked[name] = max(locked[name], strength)
		}
		return nil
	})
	return locked, err
}

// tableSizes returns the bytes of the tables in use, with their indexes.
func tableSizes(ctx context.Context, conn *pgx.Conn) (map[string]int64, error) {
	rows, err := conn.Query(ctx, `SELECT relname, pg_total_relation_size(oid) FROM pg_class WHERE relkind = 'r' AND relnamespace = CAST(current_schema() AS regnamespace)`)
	if err != nil {
		return nil, err
	}
	sizes := map[string]int64{}
	var name string
	var size int64
	_, err = pgx.ForEachRow(rows, []any{&name, &size}, func() error {
		sizes[name] = size
		return nil
	})
	return sizes, err
}

// withLockTimeout are the files of migrations for PostgreSQL, each with a limit for how long a
// statement waits for a lock. While a statement waits for a lock on a table, every later query of
// that table waits behind it. So a migration must not wait for a transaction that takes long, such
// as a backup by pg_dump: it gives up, and is tried again.
type withLockTimeout struct{ fs.FS }

// Open implements fs.FS.
func (f withLockTimeout) Open(name string) (fs.File, error) {
	file, err := f.FS.Open(name)
	if err != nil || path.Ext(name) != ".sql" {
		return file, err
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	const up = "-- +goose Up\n"
	return limitedMigration{file, strings.NewReader(strings.Replace(string(text), up, up+lockTimeout(migrationLockWait)+";\n", 1))}, nil
}

// limitedMigration is the file of a migration with another content.
type limitedMigration struct {
	fs.File
	content io.Reader
}

// Read implements fs.File.
func (m limitedMigration) Read(p []byte) (int, error) { return m.content.Read(p) }

package doctor

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/storage/sqldb"
)

// Inspection describes a database.
type Inspection = sqldb.Inspection

// The limits of what is normal for a database.
const (
	// oldestPostgreSQL is the oldest major version that PostgreSQL's project supports in 2026.
	oldestPostgreSQL = 14
	// slowDatabase is the time of a query that does nothing. Every sign-in waits for a dozen.
	slowDatabase = 20 * time.Millisecond
	// lowDisk is the part of a disk, and the number of bytes, below which an operator should act.
	lowDiskPart  = 0.05
	lowDiskBytes = 512 << 20
	// sealedSecretsVersion is the version of the schema from which the master key can be rotated.
	sealedSecretsVersion = 27
)

func (r *run) checkDatabase(ctx context.Context) string {
	c := r.options.Configuration
	if c == nil {
		return noConfiguration
	}
	inspect := r.options.Inspect
	if inspect == nil {
		inspect = func(ctx context.Context) (*Inspection, error) {
			return sqldb.Inspect(ctx, databaseOf(c), c.InsecureDatabaseConnection)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*requestTime)
	defer cancel()
	i, err := inspect(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return "there is no database yet; the server creates it"
	}
	if err != nil {
		r.find("database.unreachable", "%v", err)
		return ""
	}
	r.judgeDatabase(i)
	r.prepared = i.SchemaVersion >= sealedSecretsVersion
	return ""
}

func databaseOf(c *configuration.Configuration) string {
	return cmp.Or(c.Database, configuration.DefaultDatabase)
}

func (r *run) judgeDatabase(i *Inspection) {
	if i.Latency > slowDatabase {
		r.find("database.slow", "a query that does nothing takes %v", i.Latency.Round(time.Millisecond))
	}
	if i.SchemaVersion > i.KnownVersion {
		r.find("database.newer", "the database has schema version %d, and this program knows %d", i.SchemaVersion, i.KnownVersion)
	}
	if !i.PostgreSQL {
		if i.JournalMode != "wal" {
			r.find("database.journal_mode", "journal_mode is %s", i.JournalMode)
		}
		return
	}
	if i.VersionNumber/10000 < oldestPostgreSQL {
		r.find("database.old_version", "PostgreSQL %s", i.Version)
	}
	if i.Settings["fsync"] == "off" {
		r.find("database.fsync_off", "fsync is off")
	}
	if i.Settings["full_page_writes"] == "off" {
		r.find("database.full_page_writes_off", "full_page_writes is off")
	}
	if i.Settings["synchronous_commit"] == "off" {
		r.find("database.synchronous_commit_off", "synchronous_commit is off for this role and database")
	}
	if i.NoTransactions != "" {
		r.find("database.statement_pooling", "%s", i.NoTransactions)
	}
	if i.Standby {
		r.find("database.read_only", "the database does not accept writes")
	}
	if skew := i.Time.Sub(i.Received); !i.Time.IsZero() && skew.Abs() > maxSkew {
		r.find("database.clock_skew", "the clock of the database is %v away from that of this machine", skew.Abs().Round(time.Second))
	}
	if i.MaxConnections > 0 && i.Connections > i.MaxConnections/10*8 {
		r.find("database.connections", "%d of %d connections are used", i.Connections, i.MaxConnections)
	}
}

// checkDisk looks at the disk of a SQLite database. That of PostgreSQL is on another machine, or
// belongs to another program.
func (r *run) checkDisk(context.Context) string {
	c := r.options.Configuration
	if c == nil {
		return noConfiguration
	}
	path, ok := strings.CutPrefix(databaseOf(c), "sqlite:")
	if !ok || path == ":memory:" {
		return "PostgreSQL does not tell how full its disk is"
	}
	free, total, err := r.options.FreeDisk(filepath.Dir(path))
	if err != nil {
		return err.Error()
	}
	if free < lowDiskBytes || float64(free) < lowDiskPart*float64(total) {
		r.find("database.disk_low", "%d MiB of %d MiB are free in %s", free>>20, total>>20, filepath.Dir(path))
	}
	return ""
}

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/database"
)

type migrateCommand struct {
	DryRun         bool `help:"Print the SQL of the migrations that are missing, and the locks that they take, and change nothing."`
	serverDatabase `embed:""`
}

// Help is shown by "valetkey migrate --help".
func (migrateCommand) Help() string {
	return "A server migrates its database when it starts. This command does the same without serving, for example before the nodes of a cluster are replaced. " +
		"Nodes of the previous version keep running on the migrated database.\n\n" +
		"With --dry-run, the migrations are tried where they affect nobody: on PostgreSQL in a schema of its own without rows, on SQLite on a copy of the database. " +
		"It needs no master key. The exit code is 3 if migrations are missing, and 0 if there are none.\n\n" +
		"Examples:\n  valetkey migrate --dry-run --config valetkey.yaml\n  valetkey migrate --config valetkey.yaml"
}

// Run applies migrations, or shows them.
func (c *migrateCommand) Run(ctx context.Context, o *output) error {
	if c.DryRun {
		return c.dryRun(ctx, o)
	}
	store, _, err := c.open(ctx)
	if err != nil {
		return err
	}
	applied := store.Migrated()
	if err := store.Close(); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(o.out, map[string]any{"applied": migrationsJSON(applied)})
	}
	for _, m := range applied {
		fmt.Fprintf(o.out, "%s was applied in %v.\n", m.Name, rounded(m.Took))
	}
	if len(applied) == 0 {
		fmt.Fprintln(o.out, "The database has the schema of this program. Nothing to do.")
	}
	return nil
}

func (c *migrateCommand) dryRun(ctx context.Context, o *output) error {
	config, err := c.configuration()
	if err != nil {
		return err
	}
	pending, err := database.PendingMigrations(ctx, &config)
	if err != nil {
		return err
	}
	if c.JSON {
		result := map[string]any{"pending": migrationsJSON(pending.Migrations)}
		if pending.LocksUnknown != nil {
			result["locks_unknown"] = pending.LocksUnknown.Error()
		}
		if err := printJSON(o.out, result); err != nil {
			return err
		}
	} else {
		printPending(o, &pending)
	}
	if len(pending.Migrations) > 0 {
		return errDifferent
	}
	return nil
}

// printPending prints SQL, with comments about it.
func printPending(o *output, pending *database.Pending) {
	for i := range pending.Migrations {
		m := &pending.Migrations[i]
		fmt.Fprintf(o.out, "-- %s: one transaction.\n", m.Name)
		for _, lock := range m.Locks {
			fmt.Fprintf(o.out, "-- %s\n", describeLock(&lock))
		}
		if m.Took > 0 {
			fmt.Fprintf(o.out, "-- It took %v on a copy of the database.\n", rounded(m.Took))
		}
		if len(m.Locks) == 0 && pending.LocksUnknown == nil {
			fmt.Fprintln(o.out, "-- It locks no table that exists already.")
		}
		fmt.Fprintf(o.out, "BEGIN;\n%sCOMMIT;\n\n", m.SQL)
	}
	if pending.LocksUnknown != nil {
		fmt.Fprintln(o.log, "The locks are not known:", pending.LocksUnknown)
	}
	switch n := len(pending.Migrations); n {
	case 0:
		fmt.Fprintln(o.out, "-- The database has the schema of this program. Nothing to do.")
	case 1:
		fmt.Fprintln(o.out, "-- 1 migration is missing. Nothing was changed.")
	default:
		fmt.Fprintf(o.out, "-- %d migrations are missing. Nothing was changed.\n", n)
	}
}

func describeLock(l *database.Lock) string {
	about := "nothing waits"
	if l.Waits != "" {
		about = l.Waits + " wait"
	}
	if l.Table == "" {
		return fmt.Sprintf("The lock for writing: %s; the database has %s.", about, mebibytes(l.Bytes))
	}
	switch {
	case l.Rewritten:
		about += " while the whole table is written again"
	case len(l.Indexes) > 0:
		about += " while the table is read for " + strings.Join(l.Indexes, ", ")
	}
	return fmt.Sprintf("%s: %s lock, %s; the table has %s.", l.Table, l.Mode, about, mebibytes(l.Bytes))
}

func rounded(d time.Duration) time.Duration { return max(d.Round(time.Millisecond), time.Millisecond) }

type (
	migrationJSON struct {
		Version int64      `json:"version"`
		Name    string     `json:"name"`
		SQL     string     `json:"sql,omitempty"`
		Locks   []lockJSON `json:"locks,omitempty"`
		Seconds float64    `json:"seconds,omitempty"`
	}
	lockJSON struct {
		Table     string   `json:"table,omitempty"`
		Mode      string   `json:"mode"`
		Waits     string   `json:"waits,omitempty"`
		Bytes     int64    `json:"bytes"`
		Indexes   []string `json:"indexes,omitempty"`
		Rewritten bool     `json:"rewritten,omitempty"`
	}
)

func migrationsJSON(migrations []database.Migration) []migrationJSON {
	all := make([]migrationJSON, len(migrations))
	for i, m := range migrations {
		all[i] = migrationJSON{Version: m.Version, Name: m.Name, SQL: m.SQL, Seconds: m.Took.Seconds()}
		for _, l := range m.Locks {
			all[i].Locks = append(all[i].Locks, lockJSON(l))
		}
	}
	return all
}

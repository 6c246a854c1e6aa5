package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/valetkey/valetkey/internal/database"
)

type backupCommand struct {
	File           string `arg:"" help:"The new file." placeholder:"FILE"`
	serverDatabase `embed:""`
}

// Help is shown by "valetkey backup --help".
func (backupCommand) Help() string {
	return "The server can keep running. The backup has everything but the master key, without which nobody can use it: " +
		"keep the key in another place, once, and again after a rotation. PostgreSQL has its own tools (pg_dump).\n\n" +
		"Example: valetkey backup /var/backups/valetkey/$(date +%F).db --config valetkey.yaml"
}

// Run writes a backup.
func (c *backupCommand) Run(ctx context.Context, o *output) error {
	config, err := c.configuration()
	if err != nil {
		return err
	}
	began := time.Now()
	err = database.BackUp(ctx, &config, c.File, func(written, size int64) {
		fmt.Fprintf(o.log, "%s of about %s\n", mebibytes(written), mebibytes(size))
	})
	if err != nil {
		return backupError(err)
	}
	info, err := os.Stat(c.File)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(o.out, map[string]any{"file": c.File, "bytes": info.Size(), "seconds": time.Since(began).Seconds()})
	}
	fmt.Fprintf(o.out, "%s (%s)\nThe master key is not in it. Without the key, the backup is of no use: keep a copy of the key, not next to the backup.\n", c.File, mebibytes(info.Size()))
	return nil
}

func backupError(err error) error {
	if errors.Is(err, database.ErrPostgreSQLBackup) {
		return usageError{err}
	}
	return err
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

type restoreCommand struct {
	File  string `arg:"" help:"The backup." type:"existingfile" placeholder:"FILE"`
	Force bool   `help:"Replace the database that is there, which is kept under another name."`
	// The database does not have to exist.
	Config   string `help:"Configuration file that names the database." type:"existingfile" placeholder:"FILE"`
	Database string `help:"sqlite:PATH (default: from --config or VALETKEY_DATABASE, else sqlite:./valetkey.db)" placeholder:"URL"`
	JSON     bool   `help:"Print JSON."`
}

// Help is shown by "valetkey restore --help".
func (restoreCommand) Help() string {
	return "Stop the server first. The backup is put in place only if it is complete and the master key opens it. " +
		"What was revoked after the backup is valid again; see docs/guides/deploy.md.\n\n" +
		"Example: valetkey restore /var/backups/valetkey/2026-11-26.db --config valetkey.yaml"
}

// Run puts a backup in place.
func (c *restoreCommand) Run(ctx context.Context, o *output) error {
	config, err := databaseOf(c.Config, c.Database)
	if err != nil {
		return err
	}
	kept, err := database.Restore(ctx, &config, c.File, c.Force, time.Now())
	if err != nil {
		return backupError(err)
	}
	if c.JSON {
		return printJSON(o.out, map[string]any{"database": config.Database, "kept": kept})
	}
	fmt.Fprintf(o.out, "%s is restored. The master key opens it.\n", config.Database)
	if kept != "" {
		fmt.Fprintf(o.out, "The database that was there is %s.\n", kept)
	}
	return nil
}

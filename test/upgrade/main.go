// Command upgrade runs an older version of the server, built from the history of this repository,
// and the present one side by side on one PostgreSQL database, as while a cluster is upgraded:
//
//	go run ./test/upgrade                 the version before the last migration
//	go run ./test/upgrade -commit HASH    another one
//
// Behind a proxy that alternates between the two with every request, users sign in, clients redeem
// codes, refresh, introspect and revoke tokens, keys are rotated, and the configuration changes on both
// sides. Any error ends the run with exit code 1. It needs PostgreSQL, and a clone with the history.
//
//	go run ./test/upgrade -write DIR -commit HASH
//
// writes databases of an older version, with what its clients and users have, to a directory. They are in
// test/faults/testdata, where a test restores and upgrades them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
)

func main() {
	commit := flag.String("commit", "", "the older version; default: the one before the last migration")
	write := flag.String("write", "", "write databases of the older version to this directory, and end")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *commit, *write); err != nil {
		fmt.Fprintln(os.Stderr, "upgrade:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, commit, write string) (err error) {
	directory, err := os.MkdirTemp("", "valetkey-upgrade-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(directory)) }()
	if commit == "" {
		if commit, err = beforeLastMigration(ctx); err != nil {
			return err
		}
	}
	older := filepath.Join(directory, "older")
	if err := buildOlder(ctx, commit, directory, older); err != nil {
		return err
	}
	if write != "" {
		return writeDatabases(ctx, older, write)
	}
	newer := filepath.Join(directory, "newer")
	if err := command(ctx, ".", "go", "build", "-o", newer, "github.com/valetkey/valetkey/cmd/valetkey"); err != nil {
		return err
	}
	return sideBySide(ctx, directory, older, newer)
}

// beforeLastMigration returns the parent of the last commit that added a migration.
func beforeLastMigration(ctx context.Context) (string, error) {
	output, err := exec.CommandContext(ctx, "git", "log", "-1", "--diff-filter=A", "--format=%H^", "--", ":/storage/sqldb/migrations").Output()
	if err != nil {
		return "", fmt.Errorf("find an older version in the history: %w", err)
	}
	return strings.TrimSpace(string(output)), nil
}

// buildOlder builds the program of a commit in a worktree of its own, which it removes.
func buildOlder(ctx context.Context, commit, directory, program string) (err error) {
	tree := filepath.Join(directory, "tree")
	if err := command(ctx, ".", "git", "worktree", "add", "--detach", "--quiet", tree, commit); err != nil {
		return fmt.Errorf("%w\nA shallow clone has no older versions: run git fetch --unshallow", err)
	}
	defer func() {
		err = errors.Join(err, command(context.WithoutCancel(ctx), ".", "git", "worktree", "remove", "--force", tree))
	}()
	described, err := exec.CommandContext(ctx, "git", "-C", tree, "log", "-1", "--format=%h of %cd", "--date=iso").Output()
	if err != nil {
		return err
	}
	fmt.Printf("Building the older version, %s …\n", strings.TrimSpace(string(described)))
	return command(ctx, tree, "go", "build", "-o", program, "./cmd/valetkey")
}

func command(ctx context.Context, directory, name string, args ...string) error {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = directory
	if output, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(c.Args, " "), err, output)
	}
	return nil
}

package pgtest

import (
	"errors"
	"io"
	"net/url"
	"os"
	"os/exec"
)

// Temporary is a PostgreSQL server for a program that is not a test.
type Temporary struct {
	URL   string // of the database postgres
	life  io.Closer
	watch *exec.Cmd
}

// StartTemporary starts a server with PostgreSQL's own settings: unlike a server for tests, it syncs
// to disk. It ends with Stop or with the process, and its data is then deleted.
func StartTemporary() (*Temporary, error) {
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "valetkey-postgres-")
	if err != nil {
		return nil, err
	}
	attributes, err := owner(dir)
	if err == nil {
		err = initialize(bin, dir, attributes)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	watch, life, err := launch(bin, dir, attributes, "fsync=on", "full_page_writes=on", "deadlock_timeout=1s",
		"max_wal_size=1GB", "wal_init_zero=on", "autovacuum=on")
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	at := &url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/postgres", RawQuery: url.Values{"host": {dir}}.Encode()}
	t := &Temporary{at.String(), life, watch}
	if err := wait(at, dir); err != nil {
		return nil, errors.Join(err, t.Stop())
	}
	return t, nil
}

// Stop ends the server and deletes its data.
func (t *Temporary) Stop() error { return errors.Join(t.life.Close(), t.watch.Wait()) }

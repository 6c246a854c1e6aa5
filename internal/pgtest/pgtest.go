// Package pgtest provides PostgreSQL for tests: the server at VALETKEY_TEST_POSTGRES, or one that
// it starts on this machine and that ends with the test process.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/valetkey/valetkey/storage"
)

// Variable is the environment variable with the postgres:// URL of a server on which tests may create databases.
const Variable = "VALETKEY_TEST_POSTGRES"

// server is started once, by the first test that needs it.
var server = sync.OnceValues(start)

// running is a server that accepts connections.
type running struct {
	url *url.URL
	// life is the standard input of the script that runs the server. Nothing is written to it,
	// and it is closed when this process ends. It is kept here so that the garbage collector
	// does not close it.
	life io.Closer
}

var errNone = errors.New("PostgreSQL is neither in /usr/lib/postgresql nor on the PATH, and " + Variable + " is not set")

// Database returns the URL of a new, empty database, which is dropped when the test ends. Without
// PostgreSQL the test is skipped, or fails if CI=true.
func Database(t testing.TB) string {
	t.Helper()
	at, err := server()
	if errors.Is(err, errNone) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return create(t, at, "template1")
}

// Template returns a function like Database, except that each database is a copy of one that was
// prepared: prepare is called once with its URL, and must leave no connection open. A copy takes
// less time than the migrations of a schema. On the server at VALETKEY_TEST_POSTGRES, where a
// template would remain after the tests, databases are empty.
func Template(prepare func(databaseURL string) error) func(testing.TB) string {
	template := newName()
	prepared := sync.OnceValue(func() error {
		at, err := server()
		if err != nil {
			return err
		}
		if err := run(context.Background(), at.url, `CREATE DATABASE `+pgx.Identifier{template}.Sanitize()); err != nil {
			return err
		}
		return prepare(at.database(template))
	})
	return func(t testing.TB) string {
		t.Helper()
		at, err := server()
		if err != nil || os.Getenv(Variable) != "" {
			return Database(t)
		}
		if err := prepared(); err != nil {
			t.Fatalf("prepare a database: %v", err)
		}
		return create(t, at, template)
	}
}

func newName() string {
	return "test_" + strings.ToLower(strings.NewReplacer("-", "_").Replace(storage.NewID()))
}

func (r *running) database(name string) string {
	database := *r.url
	database.Path = "/" + name
	return database.String()
}

// create returns the URL of a copy of a template, which is dropped when the test ends.
func create(t testing.TB, at *running, template string) string {
	t.Helper()
	name := newName()
	query := `CREATE DATABASE ` + pgx.Identifier{name}.Sanitize() + ` TEMPLATE ` + pgx.Identifier{template}.Sanitize()
	if err := run(t.Context(), at.url, query); err != nil {
		t.Fatalf("create database: %v", err)
	}
	t.Cleanup(func() {
		if err := run(context.Background(), at.url, `DROP DATABASE `+pgx.Identifier{name}.Sanitize()+` WITH (FORCE)`); err != nil {
			t.Errorf("drop database: %v", err)
		}
	})
	return at.database(name)
}

func run(ctx context.Context, server *url.URL, query string) error {
	conn, err := pgx.Connect(ctx, server.String())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, query)
	return err
}

func start() (*running, error) {
	if given := os.Getenv(Variable); given != "" {
		at, err := url.Parse(given)
		return &running{url: at}, err
	}
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	dir, err := newDirectory("valetkey-postgres-")
	if err != nil {
		return nil, err
	}
	attributes, err := owner(dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := initialize(bin, dir, attributes); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	_, life, err := launch(bin, dir, attributes)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	// The host is the directory of the socket: no free port is needed, and only this user has access.
	at := &url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/postgres", RawQuery: url.Values{"host": {dir}}.Encode()}
	return &running{at, life}, wait(at, dir)
}

// programs returns the directory of the newest PostgreSQL.
func programs() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))) // 0 if it is not a version
		return n
	}
	if len(found) > 0 {
		newest := slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })
		return filepath.Dir(newest), nil
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	return "", errNone
}

// owner changes the owner of dir to a user who may run PostgreSQL, which root may not.
func owner(dir string) (*syscall.SysProcAttr, error) {
	// In a separate process group, Ctrl-C at the terminal does not reach the server.
	attributes := &syscall.SysProcAttr{Setpgid: true}
	if os.Getuid() != 0 {
		return attributes, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, fmt.Errorf("find a user for PostgreSQL: %w", err)
		}
	}
	uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(uidErr, gidErr, os.Chown(dir, int(uid), int(gid))); err != nil {
		return nil, fmt.Errorf("change the owner of the directory to %s: %w", u.Username, err)
	}
	attributes.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return attributes, nil
}

// newDirectory creates a directory for a server. Each of hundreds of databases is a copy of 8 MB, so
// it is in memory, if there is a file system of Linux for that and it has enough space.
func newDirectory(prefix string) (string, error) {
	const shared, least = "/dev/shm", 3 << 30
	var free syscall.Statfs_t
	if err := syscall.Statfs(shared, &free); err == nil && free.Bavail*uint64(free.Bsize) > least {
		if dir, err := os.MkdirTemp(shared, prefix); err == nil {
			return dir, nil
		}
	}
	return os.MkdirTemp("", prefix)
}

// script runs the server until its standard input is closed, which happens when the test process
// ends, however it ends. Then it cleans up. Deadlocks are detected early, so that tests of them do
// not wait for the default of one second. Nothing is synced to disk: no test simulates a power
// failure. The log of the server stays small, and databases are dropped before they need a vacuum.
const script = `
dir=$1
shift
for option; do
	set -- "$@" -c "$option"
	shift
done
"$0/postgres" -D "$dir/data" -k "$dir" -c listen_addresses= -c max_connections=400 -c deadlock_timeout=50ms -c fsync=off -c full_page_writes=off -c max_wal_size=256MB -c wal_init_zero=off -c autovacuum=off "$@" >"$dir/log" 2>&1 </dev/null &
server=$!
read -r end
kill -INT $server 2>/dev/null
wait $server
rm -rf "$dir"
`

func initialize(bin, dir string, attributes *syscall.SysProcAttr) error {
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", filepath.Join(dir, "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
	initdb.SysProcAttr = attributes
	initdb.Dir = dir
	if output, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, output)
	}
	return nil
}

// launch starts the server with options of the form name=value. It runs until life is closed.
func launch(bin, dir string, attributes *syscall.SysProcAttr, options ...string) (watch *exec.Cmd, life io.Closer, err error) {
	watch = exec.Command("/bin/sh", append([]string{"-c", script, bin, dir}, options...)...)
	watch.SysProcAttr = attributes
	watch.Dir = dir
	if life, err = watch.StdinPipe(); err != nil {
		return nil, nil, err
	}
	return watch, life, watch.Start()
}

// wait returns when the server accepts connections.
func wait(at *url.URL, dir string) error {
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if err = run(context.Background(), at, `SELECT 1`); err == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	output, logErr := os.ReadFile(filepath.Join(dir, "log"))
	return errors.Join(fmt.Errorf("PostgreSQL does not respond: %w\n%s", err, output), logErr)
}

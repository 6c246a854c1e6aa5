// Package faults kills servers in the middle of their work, like a power failure or the kernel
// would, and checks the responses that their clients got: nothing that was acknowledged is lost,
// and nothing is accepted twice.
package faults

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/valetkey/valetkey/internal/pgtest"
)

// Environment variables of the processes that this program starts of itself.
const (
	roleVariable          = "VALETKEY_FAULTS_ROLE"
	databaseVariable      = "VALETKEY_FAULTS_DATABASE"
	runVariable           = "VALETKEY_FAULTS_RUN"
	configurationVariable = "VALETKEY_FAULTS_CONFIGURATION"
)

func TestMain(m *testing.M) {
	var err error
	switch role := os.Getenv(roleVariable); role {
	case "":
		os.Exit(m.Run())
	case "tickets":
		go endWithParent()
		err = spendTickets()
	case "audit":
		go endWithParent()
		err = changeAudited()
	case "server":
		go endWithParent()
		err = serve()
	case "rotate":
		go endWithParent()
		err = rotateMasterKey()
	case "slow":
		go endWithParent()
		err = writeSlowly()
	case "disk":
		go endWithParent()
		err = fillDisk()
	default:
		err = fmt.Errorf("%s=%s is not a valid role", roleVariable, role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// endWithParent ends a process when the test process ends, which closes its standard input.
func endWithParent() {
	io.Copy(io.Discard, os.Stdin)
	os.Exit(1)
}

// kills returns how often a test kills a process.
func kills() int {
	if testing.Short() {
		return 5
	}
	return 50
}

// dieEarly waits for a random time during a start, when there are no responses to count.
func dieEarly() {
	<-time.After(time.Duration(rand.IntN(60)) * time.Millisecond)
}

// child is a process that will be killed.
type child struct {
	command *exec.Cmd
	life    io.Closer
	stderr  bytes.Buffer
	ended   chan error
}

// start starts another process of this program, in a role.
func start(t *testing.T, role string, prepare func(*exec.Cmd)) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{command: exec.Command(self), ended: make(chan error, 1)}
	c.command.Env = append(os.Environ(), roleVariable+"="+role)
	c.command.Stderr = &c.stderr
	if c.life, err = c.command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	prepare(c.command)
	if err := c.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { c.ended <- c.command.Wait() }()
	t.Cleanup(func() { c.life.Close() })
	return c
}

// kill kills the process with SIGKILL.
func (c *child) kill(t *testing.T) {
	t.Helper()
	if err := c.command.Process.Kill(); err != nil {
		t.Errorf("kill: %v\n%s", err, c.stderr.String())
	}
}

// waitKilled waits for the end of a process that was killed.
func (c *child) waitKilled(t *testing.T) {
	t.Helper()
	if err := <-c.ended; err == nil || err.Error() != "signal: killed" {
		t.Fatalf("the process ended by itself: %v\n%s", err, c.stderr.String())
	}
	c.life.Close()
}

// onBoth runs a test on SQLite and on PostgreSQL, each with an empty database.
func onBoth(t *testing.T, test func(t *testing.T, databaseURL string)) {
	t.Run("SQLite", func(t *testing.T) { test(t, "sqlite:"+filepath.Join(t.TempDir(), "test.db")) })
	t.Run("PostgreSQL", func(t *testing.T) {
		at, err := url.Parse(pgtest.Database(t))
		if err != nil {
			t.Fatal(err)
		}
		query := at.Query()
		query.Set("application_name", "killed")
		at.RawQuery = query.Encode()
		test(t, at.String())
	})
}

// settle waits until PostgreSQL has stopped working for a process that was killed. It finishes
// the current statement before it notices.
func settle(t *testing.T, databaseURL string) {
	t.Helper()
	if strings.HasPrefix(databaseURL, "sqlite:") {
		return
	}
	at, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	query := at.Query()
	query.Set("application_name", "waiting")
	at.RawQuery = query.Encode()
	conn, err := pgx.Connect(t.Context(), at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for working := 1; working > 0; {
		err := conn.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM pg_stat_activity
			WHERE application_name = 'killed' AND datname = current_database()) FROM pg_sleep(0.005)`).Scan(&working)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// checkIntegrity runs SQLite's integrity check.
func checkIntegrity(t *testing.T, databaseURL string) {
	t.Helper()
	path, ok := strings.CutPrefix(databaseURL, "sqlite:")
	if !ok {
		return
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var result string
	if err := db.QueryRow(`PRAGMA integrity_check`).Scan(&result); err != nil || result != "ok" {
		t.Fatalf("integrity_check: %s %v", result, err)
	}
}

package pgtest

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var errNoPgBouncer = errors.New("PgBouncer is neither on the PATH nor in /usr/sbin")

// PgBouncer starts PgBouncer in transaction mode for a database, and returns its URL. It ends with
// the test. Each transaction may get another one of the few connections to the server.
func PgBouncer(t testing.TB, databaseURL string) string {
	t.Helper()
	return PgBouncerMode(t, databaseURL, "transaction")
}

// PgBouncerMode is PgBouncer with another pool_mode.
func PgBouncerMode(t testing.TB, databaseURL, mode string) string {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/pgbouncer")
	}
	if err != nil && os.Getenv("CI") != "true" {
		t.Skip(errNoPgBouncer)
	}
	if err != nil {
		t.Fatal(errNoPgBouncer)
	}
	upstream, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "valetkey-pgbouncer-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	process, err := owner(dir)
	if err != nil {
		t.Fatal(err)
	}
	server := map[string]string{"host": upstream.Query().Get("host"), "port": upstream.Port(), "user": upstream.User.Username()}
	if server["host"] == "" {
		server["host"] = upstream.Hostname()
	}
	server["password"], _ = upstream.User.Password()
	var target strings.Builder
	for name, value := range server {
		if value != "" {
			fmt.Fprintf(&target, " %s=%s", name, value)
		}
	}
	file := filepath.Join(dir, "pgbouncer.ini")
	settings := fmt.Sprintf("[databases]\n* =%s\n[pgbouncer]\npool_mode = %s\nauth_type = any\nlisten_port = 6432\nunix_socket_dir = %s\nlogfile = %s\nmax_client_conn = 1000\ndefault_pool_size = 15\nserver_round_robin = 1\n",
		target.String(), mode, dir, filepath.Join(dir, "log"))
	if err := os.WriteFile(file, []byte(settings), 0o644); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(program, file)
	command.SysProcAttr = process
	command.Dir = dir
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := command.Process.Kill(); err != nil {
			t.Errorf("stop PgBouncer: %v", err)
		}
		_ = command.Wait() // "signal: killed"
	})
	at := &url.URL{Scheme: "postgres", User: url.User(upstream.User.Username()), Path: upstream.Path,
		RawQuery: url.Values{"host": {dir}, "port": {"6432"}, "connect_timeout": {"30"}}.Encode()}
	for deadline := time.Now().Add(time.Minute); ; {
		err := run(t.Context(), at, `SELECT 1`)
		if err == nil {
			return at.String()
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Fatalf("PgBouncer does not respond: %v\n%s", err, log)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Instance is a PostgreSQL server of one test, which can stop, freeze or replace it.
type Instance struct {
	t       testing.TB
	bin     string
	dir     string // contains its socket
	process *syscall.SysProcAttr
	life    io.Closer
}

// Start starts a server that ends with the test. Options are settings of the form name=value.
func Start(t testing.TB, options ...string) *Instance {
	t.Helper()
	i := newInstance(t)
	if err := initialize(i.bin, i.dir, i.process); err != nil {
		t.Fatal(err)
	}
	i.launch(options)
	return i
}

// Standby starts a server that replicates i, with the name "standby".
func (i *Instance) Standby(t testing.TB, options ...string) *Instance {
	t.Helper()
	s := newInstance(t)
	backup := exec.Command(filepath.Join(i.bin, "pg_basebackup"), "-h", i.dir, "-U", "postgres", "-D", filepath.Join(s.dir, "data"),
		"-R", "-X", "stream", "-c", "fast", "--no-sync")
	backup.SysProcAttr = i.process
	backup.Dir = s.dir
	if output, err := backup.CombinedOutput(); err != nil {
		t.Fatalf("pg_basebackup: %v\n%s", err, output)
	}
	s.launch(append(options, "cluster_name=standby", "primary_conninfo=host="+i.dir+" user=postgres application_name=standby"))
	return s
}

func newInstance(t testing.TB) *Instance {
	t.Helper()
	bin, err := programs()
	if errors.Is(err, errNone) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir, err := newDirectory("valetkey-postgres-")
	if err != nil {
		t.Fatal(err)
	}
	process, err := owner(dir)
	if err != nil {
		t.Fatal(errors.Join(err, os.RemoveAll(dir)))
	}
	return &Instance{t: t, bin: bin, dir: dir, process: process}
}

func (i *Instance) launch(options []string) {
	i.t.Helper()
	watch, life, err := launch(i.bin, i.dir, i.process, options...)
	if err != nil {
		i.t.Fatal(err)
	}
	i.life = life
	i.t.Cleanup(func() {
		i.Resume()
		life.Close()
		if err := watch.Wait(); err != nil {
			i.t.Errorf("stop PostgreSQL: %v", err)
		}
	})
	if err := wait(i.at("postgres"), i.dir); err != nil {
		i.t.Fatal(err)
	}
}

func (i *Instance) at(database string) *url.URL {
	return &url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/" + database, RawQuery: url.Values{"host": {i.dir}}.Encode()}
}

// Host returns the directory of the server's socket, for use as the host of a URL.
func (i *Instance) Host() string { return i.dir }

// Socket returns the path of the server's socket.
func (i *Instance) Socket() string { return filepath.Join(i.dir, ".s.PGSQL.5432") }

// Database returns the URL of a new, empty database.
func (i *Instance) Database(name string) string {
	i.t.Helper()
	i.Exec("postgres", `CREATE DATABASE `+pgx.Identifier{name}.Sanitize())
	return i.at(name).String()
}

// Exec runs a statement in a database.
func (i *Instance) Exec(database, query string) {
	i.t.Helper()
	if err := run(context.Background(), i.at(database), query); err != nil {
		i.t.Fatalf("%s: %v", query, err)
	}
}

// Promote makes a standby the primary, and returns when it accepts writes.
func (i *Instance) Promote() {
	i.t.Helper()
	i.Exec("postgres", `SELECT pg_promote()`)
}

// Stop kills the server, like a crash.
func (i *Instance) Stop() {
	i.t.Helper()
	pids := i.processes()
	for _, pid := range pids {
		i.signal(pid, syscall.SIGKILL)
	}
}

// Freeze suspends every process of the server: connections stay open and silent.
func (i *Instance) Freeze() {
	i.t.Helper()
	for _, pid := range i.processes() {
		i.signal(pid, syscall.SIGSTOP)
	}
}

// Resume resumes a server after Freeze.
func (i *Instance) Resume() {
	for _, pid := range i.processes() {
		i.signal(pid, syscall.SIGCONT)
	}
}

func (i *Instance) signal(pid int, signal syscall.Signal) {
	if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		i.t.Errorf("signal PostgreSQL: %v", err)
	}
}

// processes returns the process IDs of the server and its children.
func (i *Instance) processes() []int {
	content, err := os.ReadFile(filepath.Join(i.dir, "data", "postmaster.pid"))
	if err != nil {
		return nil // it has ended
	}
	line, _, _ := strings.Cut(string(content), "\n")
	server, err := strconv.Atoi(line)
	if err != nil {
		i.t.Errorf("read postmaster.pid: %v", err)
		return nil
	}
	pids := []int{server}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", server, server))
	if err != nil {
		return pids
	}
	for _, field := range strings.Fields(string(children)) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Proxy forwards bytes between clients and a server, until it is frozen: then connections stay
// open and nothing is forwarded, as with a frozen host or a failover without RST.
type Proxy struct {
	dir      string
	listener net.Listener
	frozen   atomic.Bool
	silent   sync.Map // connections that were open when it froze
	open     sync.Map
}

// NewProxy starts a proxy for the server at a socket. It ends with the test.
func NewProxy(t testing.TB, socket string) *Proxy {
	t.Helper()
	dir, err := os.MkdirTemp("", "valetkey-proxy-")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{dir: dir}
	if p.listener, err = net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.listener.Close()
		p.open.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	go func() {
		for {
			client, err := p.listener.Accept()
			if err != nil {
				return
			}
			go p.serve(client, socket)
		}
	}()
	return p
}

func (p *Proxy) serve(client net.Conn, socket string) {
	p.open.Store(client, true)
	defer p.open.Delete(client)
	defer client.Close()
	if p.frozen.Load() {
		p.silent.Store(client, true)
		_, _ = io.Copy(io.Discard, client)
		return
	}
	server, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	defer server.Close()
	var ended sync.WaitGroup
	forward := func(to, from net.Conn) {
		buffer := make([]byte, 32<<10)
		for {
			n, err := from.Read(buffer)
			if _, silent := p.silent.Load(client); silent {
				if err != nil {
					break
				}
				continue
			}
			if n > 0 {
				if _, err := to.Write(buffer[:n]); err != nil {
					break
				}
			}
			if err != nil {
				break
			}
		}
		// A silent connection stays open, too.
		if _, silent := p.silent.Load(client); !silent {
			client.Close()
			server.Close()
		}
	}
	ended.Go(func() { forward(server, client) })
	ended.Go(func() { forward(client, server) })
	ended.Wait()
}

// Host returns the directory of the proxy's socket, for use as the host of a URL.
func (p *Proxy) Host() string { return p.dir }

// Silence silences the open connections; new ones work.
func (p *Proxy) Silence() {
	p.open.Range(func(c, _ any) bool { p.silent.Store(c, true); return true })
}

// Freeze silences all connections, including new ones, until Thaw is called.
func (p *Proxy) Freeze() {
	p.frozen.Store(true)
	p.Silence()
}

// Thaw lets new connections work again after Freeze.
func (p *Proxy) Thaw() { p.frozen.Store(false) }

// Through returns the URL of a database through the proxy.
func (p *Proxy) Through(t testing.TB, databaseURL string) string {
	t.Helper()
	at, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	query := at.Query()
	query.Set("host", p.dir)
	at.RawQuery = query.Encode()
	return at.String()
}

// SocketOf returns the path of the socket in a URL that Database returned.
func SocketOf(t testing.TB, databaseURL string) string {
	t.Helper()
	at, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	host := at.Query().Get("host")
	if !filepath.IsAbs(host) {
		t.Skip(Variable + " does not name a server with a socket")
	}
	return filepath.Join(host, ".s.PGSQL.5432")
}

package faults

import (
	"encoding/base64"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
	"github.com/valetkey/valetkey/storage/sqldb"
)

// operatorShims are what the test has instead of systemd, sudo and other disks.
const operatorShims = `set -euo pipefail
sudo() {
  [ "$1 $2" = "-u postgres" ]; shift 2
  if [ "$(id -u)" = 0 ]; then setpriv --reuid="$OWNER" --regid="$GROUP" --clear-groups "$@"; else "$@"; fi
}
systemctl() { [ "$*" = "stop postgresql" ]; sudo -u postgres pg_ctl stop -m fast -w -D "$PGDATA"; }
cd "$DIR"
`

// archivedServer is a PostgreSQL server that is operated as the guide says.
type archivedServer struct {
	*testing.T
	dir    string
	env    []string
	blocks []string // of the guide
}

// pointInTimeBlocks returns the blocks about PostgreSQL in "Go back to any moment" of deploy.md.
func pointInTimeBlocks(t *testing.T) (blocks []string) {
	t.Helper()
	guide, err := os.ReadFile("../../docs/guides/deploy.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(guide), "\n### Go back to any moment\n")
	_, section, found2 := strings.Cut(section, "\n**PostgreSQL.**")
	section, _, found3 := strings.Cut(section, "\n## ")
	if !found || !found2 || !found3 {
		t.Fatal("deploy.md has no such section")
	}
	for _, block := range regexp.MustCompile(`(?m)(^    .*\n)+`).FindAllString(section, -1) {
		blocks = append(blocks, strings.ReplaceAll(block, "\n    ", "\n")[4:])
	}
	if len(blocks) != 5 {
		t.Fatalf("the guide has %d blocks, and this test follows 5: %q", len(blocks), blocks)
	}
	return blocks
}

func startArchived(t *testing.T) *archivedServer {
	t.Helper()
	bin := filepath.Dir(program(t, "initdb"))
	if bin == "/usr/bin" { // a wrapper
		bin = filepath.Dir(program(t, "postgres"))
	}
	// A directory of the test belongs to root alone, and PostgreSQL does not run as root.
	dir, err := os.MkdirTemp("", "valetkey-archived-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &archivedServer{T: t, dir: dir, blocks: pointInTimeBlocks(t)}
	owner, err := user.Current()
	if os.Getuid() == 0 {
		if owner, err = user.Lookup("postgres"); err != nil {
			owner, err = user.Lookup("nobody")
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	uid, err1 := strconv.Atoi(owner.Uid)
	gid, err2 := strconv.Atoi(owner.Gid)
	if err := errors.Join(err1, err2, os.Chown(dir, uid, gid)); err != nil {
		t.Fatal(err)
	}
	s.env = append(os.Environ(), "DIR="+dir, "PGDATA="+dir+"/data", "PGHOST="+dir, "PGUSER=postgres", "PGDATABASE=postgres",
		"OWNER="+owner.Uid, "GROUP="+owner.Gid, "PATH="+bin+":"+os.Getenv("PATH"))
	s.run(`sudo -u postgres mkdir archive base
sudo -u postgres initdb -U postgres -A trust -E UTF8 --no-locale --no-sync >/dev/null`)
	s.configure(s.blocks[0] + "listen_addresses = ''\nunix_socket_directories = '" + dir + "'\nfsync = off\n")
	t.Cleanup(func() { s.run(`sudo -u postgres pg_ctl stop -m immediate -w >/dev/null || true`) })
	s.launch()
	return s
}

// run runs commands of the guide. Its other disks are directories.
func (s *archivedServer) run(commands string) string {
	s.Helper()
	command := exec.Command("bash", "-c", operatorShims+s.here(commands))
	command.Env = s.env
	output, err := command.CombinedOutput()
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
		s.Fatalf("%s: %v\n%s\n%s", commands, err, output, log)
	}
	return strings.TrimSpace(string(output))
}

func (s *archivedServer) here(text string) string {
	return strings.NewReplacer("/mnt/", s.dir+"/", "$(date +%F)", "2026-11-27").Replace(text)
}

// configure appends lines to postgresql.conf.
func (s *archivedServer) configure(lines string) {
	s.Helper()
	file, err := os.OpenFile(filepath.Join(s.dir, "data", "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		s.Fatal(err)
	}
	_, err = file.WriteString(s.here(lines))
	if err := errors.Join(err, file.Close()); err != nil {
		s.Fatal(err)
	}
}

// launch starts PostgreSQL; its log begins anew.
func (s *archivedServer) launch() {
	s.Helper()
	s.run(`sudo -u postgres rm -f log
sudo -u postgres pg_ctl start -w -t 120 -l "$DIR/log" >/dev/null`)
}

func (s *archivedServer) log() string {
	s.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		s.Fatal(err)
	}
	return string(text)
}

// Point-in-time recovery on PostgreSQL, with the commands of docs/guides/deploy.md: a base backup while the
// server has requests, then changes before and after a moment, of which the last one is a rotation of the
// master key. What is restored is the state of that moment, for the master key of that moment.
func TestPointInTimeRecovery(t *testing.T) {
	valetkey := buildProgram(t)
	s := startArchived(t)
	s.run(`createdb valetkey`)
	databaseURL := "postgres://postgres@/valetkey?host=" + s.dir + "&application_name=killed"
	site := newSite(t, databaseURL)
	server := site.start(t)
	sign := func(when, name string) *customer {
		t.Helper()
		c := &customer{t: t, site: site, person: person.New(name, password)}
		for _, step := range []func() error{c.authorize, c.redeem, c.refresh} {
			if err := step(); err != nil {
				t.Fatalf("%s: %v\n%s", when, err, server.stderr.String())
			}
		}
		return c
	}
	old, other := base64.StdEncoding.EncodeToString(masterKey), base64.StdEncoding.EncodeToString([]byte(strings.Repeat("n", 32)))
	// open opens the database with a master key.
	open := func(key string) (*database.Database, error) {
		t.Setenv(configuration.MasterKeyVariable, key)
		return database.Open(t.Context(), &configuration.Configuration{Database: strings.Replace(databaseURL, "killed", "checking", 1)}, slog.New(slog.DiscardHandler))
	}
	create := func(id string) {
		t.Helper()
		d, err := open(old)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if err := d.CreateClient(t.Context(), &record.Client{ID: id, Secrets: []string{"secret of " + id}}); err != nil {
			t.Fatal(err)
		}
	}

	stop := site.load(t)
	s.run(s.blocks[1]) // the base backup
	if requests := stop(); requests < 5 {
		t.Fatalf("only %d requests during the base backup", requests)
	}
	early := sign("before the moment", "ada0")
	create("early")
	kids := site.kids(t)
	moment := s.run(`psql -XAtc "SELECT clock_timestamp() AT TIME ZONE 'UTC'"`) + "+00"
	late := sign("after the moment", "ada1")
	create("late")
	server.kill(t)
	server.waitKilled(t)
	settle(t, databaseURL)
	rotate := exec.Command(valetkey, "masterkey", "rotate", "--database", databaseURL)
	rotate.Env = append(os.Environ(), "VALETKEY_MASTER_KEY="+other, "VALETKEY_PREVIOUS_MASTER_KEY="+old)
	if output, err := rotate.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}

	s.run(s.blocks[2])
	s.run(`sudo -u postgres mv "$PGDATA" lost`)
	s.run(s.blocks[3])
	restore := regexp.MustCompile(`2026-11-27 [0-9:+]+`).ReplaceAllString(s.blocks[4], moment)
	if !strings.Contains(restore, "'"+moment+"'") {
		t.Fatalf("the guide has no moment in %q", s.blocks[4])
	}
	s.configure(restore)
	s.launch()
	for deadline := time.Now().Add(time.Minute); s.run(`psql -XAtc 'SELECT pg_is_in_recovery()'`) != "f"; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("PostgreSQL is not promoted:\n%s", s.log())
		}
	}
	for _, line := range []string{"recovery stopping before commit of transaction", "database system is ready to accept connections"} {
		if !strings.Contains(s.log(), line) {
			t.Errorf("the log has no %q:\n%s", line, s.log())
		}
	}

	if _, err := open(other); !errors.Is(err, sqldb.ErrWrongMasterKey) {
		t.Errorf("the master key from after the moment: %v", err)
	}
	d, err := open(old)
	if err != nil {
		t.Fatalf("the master key of the moment: %v", err)
	}
	if c, err := d.Client(t.Context(), "early"); err != nil || !slices.Equal(c.Secrets, []string{"secret of early"}) {
		t.Errorf("the client from before the moment: %v", err)
	}
	if _, err := d.Client(t.Context(), "late"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the client from after the moment: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	server = site.start(t)
	if got := site.kids(t); !slices.Equal(got, kids) {
		t.Errorf("the keys are %v, want those of the moment: %v", got, kids)
	}
	if err := early.refresh(); err != nil {
		t.Errorf("the refresh token from before the moment: %v\n%s", err, server.stderr.String())
	}
	if token, err := late.useToken(len(late.tokens) - 1); err != nil || token != "" {
		t.Errorf("a refresh token from after the moment is accepted, or fails: %v", err)
	}
	sign("after the restore", "ada1")
	server.kill(t)
	server.waitKilled(t)
	settle(t, databaseURL)
	t.Logf("restored to %s", moment)
}

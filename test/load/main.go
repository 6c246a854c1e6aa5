// Command load compares Valetkey with floors: bare net/http handlers that do only the signatures
// and the durable writes of a request, on the same kind of database. Server and floor run in
// separate processes on loopback, one after the other, under the same load. It compares CPU seconds
// of the server, without the database's, per 1,000 requests, which other load on the machine hardly
// affects.
//
//	go run ./test/load                          on SQLite
//	go run ./test/load -database postgres       on a new PostgreSQL server that ends with the run
//	go run ./test/load -database postgres://…   on an existing, empty PostgreSQL database
//	go run ./test/load -database postgres -nodes 4
//	go run ./test/load -stored 1000000          with a million stored refresh tokens
//	go run ./test/load -only introspection -profile cpu.pprof
//	go run ./test/load -observed                what telemetry and the audit log cost
//	go run ./test/load -since OLD               compared with another valetkey binary, in turns
//	go run ./test/load -publish docs/performance.md
//
// The last command measures everything that docs/performance.md has, in less than eight minutes. It
// writes the file after each scenario, so that a run that is stopped keeps what it has measured.
//
// It fails if a scenario is above its limit (scenario.go). Such a scenario is measured up to three
// times, and the lowest ratio is used.
//
//	target.go, process.go  the server's nodes and the floor
//	provider.go            an OpenID Provider, and the sign-in with it
//	stored.go              refresh tokens that are stored before the load
//	floor*.go, jwt.go      the floors
//	scenario*.go           the requests, their floors and limits
//	pair.go, observed.go   two binaries; with and without telemetry and audit log
//	measure.go, limits.go  figures and limits
//	disk.go                what the disk needs for a commit
//	publish.go             tables
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"zombiezen.com/go/sqlite"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/pgtest"
)

type options struct {
	Database    string
	Requests    int
	Concurrency int
	Longest     time.Duration // of one measurement; 0 if it is not limited
	Stored      int
	Nodes       int
	JSON        bool
	Markdown    bool
	Publish     string
	Only        string // names separated by commas
	Binary      string
	Profile     string
	Limits      bool // fail above a limit
	Observed    bool // compare with and without telemetry and audit log
	Since       string
	Pairs       int // of servers that are compared, at most
	// settings are further lines of the configuration file.
	settings string
	// again is how much time is left for measurements that are repeated; nil if it is not limited.
	again *time.Duration
	// measured, if not nil, is called after each scenario.
	measured func(report) error
}

// longest returns how long a measurement may take.
func (o *options) longest() time.Duration {
	if o.Longest == 0 {
		return time.Hour
	}
	return o.Longest
}

func main() {
	if os.Getenv(configuration.MasterKeyVariable) == "" {
		// PostgreSQL requires one; the data ends with the run.
		_ = os.Setenv(configuration.MasterKeyVariable, strings.Repeat("A", 43))
	}
	if isFloor() {
		if err := runFloor(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "floor:", err)
			os.Exit(1)
		}
		return
	}
	if isDisk() {
		if err := measureDisk(os.Args[2], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "disk:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	flag.StringVar(&o.Database, "database", "", "sqlite:PATH, postgres://…, or postgres for a new server; default: a new SQLite file")
	flag.IntVar(&o.Requests, "requests", 20000, "requests of each scenario; -observed and -since send as many as they need")
	flag.DurationVar(&o.Longest, "longest", 0, "end a measurement after this time, even if not all of its requests are sent; default: 3s with -publish, otherwise no limit")
	flag.IntVar(&o.Concurrency, "concurrency", 32, "concurrent requests")
	flag.IntVar(&o.Stored, "stored", 1000, "refresh tokens that are stored before the load")
	flag.IntVar(&o.Nodes, "nodes", 1, "server processes that share the database and the load; more than one requires PostgreSQL")
	flag.BoolVar(&o.JSON, "json", false, "print JSON")
	flag.BoolVar(&o.Markdown, "markdown", false, "print a Markdown table")
	flag.StringVar(&o.Publish, "publish", "", "measure everything that docs/performance.md has, and replace its figures in this file")
	flag.StringVar(&o.Only, "only", "", "run these scenarios, separated by commas")
	flag.StringVar(&o.Binary, "binary", "", "a valetkey binary; default: one built from this tree")
	flag.StringVar(&o.Profile, "profile", "", "write a CPU profile of the server to this file, for go tool pprof, and one of its memory to FILE.heap; best with -only")
	flag.BoolVar(&o.Observed, "observed", false, "compare the server with telemetry and audit log with one without, instead of with a floor")
	flag.StringVar(&o.Since, "since", "", "compare with this older valetkey binary, instead of with a floor; if the schema has changed since, run this in the older tree, with -binary NEWER")
	flag.IntVar(&o.Pairs, "pairs", 6, "pairs of servers that -observed and -since start")
	flag.BoolVar(&o.Limits, "limits", true, "fail if a scenario is above its limit")
	flag.Parse()
	work := run
	if o.Publish != "" {
		work = publish
	}
	if o.Observed {
		work = measureObserved
	}
	if o.Since != "" {
		work = measureSince
	}
	if err := work(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

const floorArguments = 4

func isFloor() bool { return len(os.Args) == 2+floorArguments && os.Args[1] == "floor" }

func runFloor(ctx context.Context) error {
	return serveFloor(ctx, os.Args[2], os.Args[3], os.Args[4], os.Args[5])
}

// run measures one database and prints the result.
func run(ctx context.Context, o options) error {
	r, err := measureAll(ctx, o)
	if err != nil {
		return err
	}
	switch {
	case o.JSON:
		err = json.NewEncoder(os.Stdout).Encode(r)
	case o.Markdown:
		fmt.Print(r.table() + r.memoryLine())
	default:
		if r.Guessing != nil {
			fmt.Println(r.Guessing)
		}
		fmt.Printf("from exec to the first 200: %.0f ms; resident after the load: %.1f MiB, %.1f MiB without the program file\n", r.Started, r.Memory.Resident, r.Memory.Own)
	}
	if err == nil && o.Limits {
		err = aboveLimit(r)
	}
	return err
}

// report is the result of a run.
type report struct {
	Database  string   `json:"database"`
	Version   string   `json:"version"` // of the database
	Nodes     int      `json:"nodes"`
	Stored    int      `json:"stored"`
	Started   float64  `json:"started_ms"`
	Memory    memory   `json:"memory"`
	Scenarios []result `json:"scenarios"`
	// Guessing is nil if the scenario was not selected.
	Guessing *guessing `json:"guessing,omitempty"`
}

// guessersName selects measureGuessing, as the name of a scenario selects that.
const guessersName = "guessers"

// chosen returns the scenarios that the flags select, and whether they select measureGuessing.
func chosen(only string) (selected []scenario, guessing bool, err error) {
	all := scenarios()
	if only == "" {
		return all, true, nil
	}
	names := strings.Split(only, ",")
	for _, name := range names {
		if _, known := scenarioNamed(name); !known && name != guessersName {
			return nil, false, fmt.Errorf("there is no scenario %q", name)
		}
	}
	selected = slices.DeleteFunc(all, func(s scenario) bool { return !slices.Contains(names, s.name) })
	return selected, slices.Contains(names, guessersName), nil
}

// measureAll runs the scenarios, and prints each result unless the output has another form.
func measureAll(ctx context.Context, o options) (r report, err error) {
	selected, guesses, err := chosen(o.Only)
	if err != nil {
		return r, err
	}
	dir, err := os.MkdirTemp("", "valetkey-load")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	floorDatabase := "sqlite:" + filepath.Join(dir, "floor.db")
	switch {
	case o.Database == "":
		o.Database = "sqlite:" + filepath.Join(dir, "load.db")
	case o.Database == "postgres":
		temporary, failed := pgtest.StartTemporary()
		if failed != nil {
			return r, failed
		}
		defer func() { err = errors.Join(err, temporary.Stop()) }()
		o.Database = temporary.URL
	}
	if strings.HasPrefix(o.Database, "postgres") {
		floorDatabase = o.Database
	} else if o.Nodes > 1 {
		return r, errors.New("several nodes require PostgreSQL: pass -database postgres")
	}
	if o.Binary == "" {
		o.Binary = filepath.Join(dir, "valetkey")
		if err := build(ctx, o); err != nil {
			return r, err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	client, err := newKeys()
	if err != nil {
		return r, err
	}
	provider, err := startProvider(client)
	if err != nil {
		return r, err
	}
	defer provider.Close()
	subject, err := startServer(ctx, o, dir, provider.URL, client)
	if err != nil {
		return r, err
	}
	defer subject.stop()
	floor, err := startFloor(ctx, self, floorDatabase, subject.url, o.Nodes, client)
	if err != nil {
		return r, err
	}
	defer floor.stop()
	floor.provider = provider.URL
	if subject.disk, err = startDisk(ctx, self, dir); err != nil {
		return r, err
	}
	defer subject.disk.stop()
	if err := subject.settle(ctx); err != nil {
		return r, err
	}
	fmt.Fprintf(os.Stderr, "%d requests of each kind, %d concurrent\n", o.Requests, o.Concurrency)

	r = report{Nodes: o.Nodes, Stored: o.Stored}
	if r.Database, r.Version, err = databaseVersion(ctx, o.Database); err != nil {
		return r, err
	}
	for _, s := range selected {
		result, err := s.measured(ctx, o, subject.target, floor, client)
		if err != nil {
			return r, err
		}
		r.Scenarios = append(r.Scenarios, result)
		if s.most == 0 { // a process that hashes passwords has more memory for some seconds
			r.Memory = subject.memory()
		}
		if !o.JSON && !o.Markdown {
			fmt.Println(result)
		}
		if o.measured != nil {
			if err := o.measured(r); err != nil {
				return r, err
			}
		}
	}
	if r.Memory == (memory{}) {
		r.Memory = subject.memory()
	}
	for tries := 0; guesses && tries < 3 && (r.Guessing == nil || o.Limits && !(r.Guessing.Slowdown <= maxSlowdown)); tries++ {
		g, err := measureGuessing(ctx, o, subject.target, client)
		if err != nil {
			return r, fmt.Errorf("%s: %w", guessersName, err)
		}
		if r.Guessing == nil || g.Slowdown < r.Guessing.Slowdown {
			r.Guessing = &g
		}
	}
	started, err := subject.startTime(ctx)
	r.Started = float64(started) / float64(time.Millisecond)
	return r, err
}

// measured measures a scenario, and again if it is above its limit.
func (s scenario) measured(ctx context.Context, o options, subject, floor *target, client keys) (result, error) {
	if s.most > 0 {
		o.Requests, o.Concurrency = min(o.Requests, s.most), min(o.Concurrency, signInsAtOnce)
	}
	prepared, err := s.prepare(ctx, subject, client)
	if err != nil {
		return result{}, fmt.Errorf("%s: %w", s.name, err)
	}
	bare := s.floor(floor, client)
	r, err := compare(ctx, s.name, o, subject, prepared, floor, bare)
	for tries := 1; err == nil && o.Limits && !(r.Ratio <= r.Limit) && tries < 3 && (o.again == nil || *o.again > 0); tries++ {
		var again result
		began := time.Now()
		again, err = compare(ctx, s.name, o, subject, prepared, floor, bare)
		if o.again != nil {
			*o.again -= time.Since(began)
		}
		if err == nil && !(r.Ratio <= again.Ratio) {
			r = again
		}
	}
	return r, err
}

// build builds the server as releases are built.
func build(ctx context.Context, o options) error {
	tags := ""
	if o.Profile != "" {
		tags = "profile"
	}
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", tags, "-ldflags", "-s -w", "-o", o.Binary, "github.com/valetkey/valetkey/cmd/valetkey")
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	command.Stderr = os.Stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("build valetkey: %w", err)
	}
	return nil
}

func databaseVersion(ctx context.Context, database string) (kind, version string, err error) {
	if !strings.HasPrefix(database, "postgres") {
		return "SQLite", sqlite.Version, nil
	}
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return "", "", err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, "SHOW server_version").Scan(&version)
	version, _, _ = strings.Cut(version, " ") // without the distribution
	return "PostgreSQL", version, err
}

// Command conformance runs the OpenID Foundation's conformance suite against the server. It
// starts a server, creates the plans at a running suite, and acts as the end user in a
// browser.
//
//	go run ./test/conformance --suite https://localhost:8443
//	go run ./test/conformance --suite https://localhost:8443 --plan basic-static --module oidcc-server
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
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/valetkey/valetkey"
)

// run is one run of the command.
type run struct {
	suite     *suite
	server    *server
	directory string
	commit    string // of the server, or ""
	versions  string // of server and suite
	chromium  string
	patience  time.Duration
	pictures  sync.Mutex
	keys      sync.RWMutex

	mu     sync.Mutex
	report *report
	file   string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := start(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func start(ctx context.Context) error {
	address := flag.String("suite", os.Getenv("CONFORMANCE_SUITE"), "the `URL` of a running suite; also CONFORMANCE_SUITE")
	asked := flag.String("plan", "", "run only these `plans`, separated by commas: labels, prefixes of labels that end in *, or names in the suite")
	module := flag.String("module", "", "run only this `module`")
	resume := flag.Bool("resume", false, "skip modules that neither failed nor warned in an earlier run")
	parallel := flag.Int("parallel", 2, "how many plans run in parallel")
	database := flag.String("database", "", "the server's database `URL` (default SQLite)")
	document := flag.String("write", "", "write the results to this Markdown `file`; without --suite, those of earlier runs")
	directory := flag.String("directory", filepath.Join("test", "artifacts", "conformance"), "the `directory` of the results")
	list := flag.Bool("list", false, "list the plans")
	without := flag.Bool("without-switches", false, "run with the default settings, without the insecure_… switches that the suite needs")
	flag.Parse()
	all := find(*asked)
	if *without {
		for i := range all {
			all[i].WithoutSwitches = true
			all[i].Label += withoutSwitches
		}
	}
	if strings.HasPrefix(*database, "postgres") {
		for i := range all {
			all[i].Label += "-postgresql"
		}
	}
	if *list {
		for _, p := range all {
			fmt.Println(p.Label, p.Name)
		}
		return nil
	}
	file := filepath.Join(*directory, "results.json")
	if *address == "" && *document != "" {
		earlier, err := readReport(file)
		if err != nil {
			return err
		}
		return earlier.write(*document)
	}
	if *address == "" {
		return errors.New("no suite: pass --suite URL")
	}
	if len(all) == 0 {
		return fmt.Errorf("unknown plan %q: see --list", *asked)
	}
	if err := os.MkdirAll(*directory, 0o755); err != nil {
		return err
	}
	r := &run{suite: newSuite(*address), file: file, chromium: "chromium", patience: picturePatience}
	if path := os.Getenv("CHROMIUM"); path != "" {
		r.chromium = path
	}
	if _, err := exec.LookPath(r.chromium); err != nil {
		return fmt.Errorf("screenshots need Chromium: %w", err)
	}
	var err error
	if r.directory, err = os.MkdirTemp("", "conformance-"); err != nil {
		return err
	}
	if r.report, err = readReport(r.file); err != nil {
		return err
	}
	version, err := r.suite.version(ctx)
	if err != nil {
		return err
	}
	r.commit = commit(ctx)
	r.versions = "Valetkey " + valetkey.Version + " against suite " + version
	if r.server, err = startServer(ctx, r.directory, *database, r.suite, all); err != nil {
		return err
	}
	defer r.server.stop()
	err = r.runAll(ctx, all, *module, *resume, *parallel)
	if err := r.report.print(os.Stdout, all); err != nil {
		return err
	}
	if *document != "" {
		err = errors.Join(err, r.report.write(*document))
	}
	if problems := r.report.problems(all, *module); err == nil && len(problems) > 0 {
		err = fmt.Errorf("%s; the server's log is %s", strings.Join(problems, "; "), filepath.Join(r.directory, "server.log"))
	}
	return err
}

// runAll runs plans in parallel, and the modules of each plan in sequence.
func (r *run) runAll(ctx context.Context, all []plan, only string, resume bool, parallel int) error {
	var group sync.WaitGroup
	failures := make([]error, len(all))
	slots := make(chan struct{}, max(parallel, 1))
	for i := range all {
		slots <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		group.Go(func() {
			defer func() { <-slots }()
			failures[i] = r.runPlan(ctx, &all[i], only, resume)
		})
	}
	group.Wait()
	return errors.Join(append(failures, ctx.Err())...)
}

func (r *run) runPlan(ctx context.Context, p *plan, only string, resume bool) error {
	id, modules, err := r.suite.createPlan(ctx, p, p.configuration(r.server.issuer, r.server.apiURL()))
	if err != nil {
		return fmt.Errorf("plan %s: %w", p.Label, err)
	}
	if len(modules) == 0 {
		return fmt.Errorf("plan %s: the suite returned no modules", p.Label)
	}
	r.mu.Lock()
	r.report.Switches[p.Label] = p.switches()
	r.mu.Unlock()
	modules = slices.DeleteFunc(modules, func(m module) bool { return only != "" && m.Name != only })
	for i, m := range modules {
		if ctx.Err() != nil {
			return nil
		}
		r.mu.Lock()
		known, ok := r.report.find(p.Label, m)
		r.mu.Unlock()
		if resume && ok && slices.Contains([]string{"PASSED", "REVIEW", "SKIPPED"}, known.Result) {
			continue
		}
		ended := r.runModule(ctx, p, id, m)
		if ctx.Err() != nil {
			return nil // interrupted, which is not a result of the server
		}
		r.mu.Lock()
		r.report.put(p.Label, ended)
		err := r.report.save(r.file)
		fmt.Fprintf(os.Stderr, "%-9s %s %d/%d %s\n", ended.Result, p.Label, i+1, len(modules), m.Name)
		r.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// Command load measures Valetkey beside floors of the same shape: bare net/http handlers
// that do the signatures and the durable writes of a request and nothing else. Server and
// floor run in processes of their own on loopback, one after the other, under the same
// load; what is compared is CPU seconds of the server per 1,000 requests, which noise on
// the machine hardly moves.
//
//	go run ./test/load                          on SQLite
//	go run ./test/load --database postgres://…  on PostgreSQL
//	go run ./test/load --stored 1000000         with a million stored grants
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

type options struct {
	Database    string
	Requests    int
	Concurrency int
	Stored      int
	JSON        bool
	Only        string
	Binary      string
}

func main() {
	if len(os.Args) > 4 && os.Args[1] == "floor" {
		if err := serveFloor(os.Args[2], os.Args[3], os.Args[4]); err != nil {
			fmt.Fprintln(os.Stderr, "floor:", err)
			os.Exit(1)
		}
		return
	}
	var o options
	flag.StringVar(&o.Database, "database", "", "sqlite:PATH or postgres://…; default: a new SQLite file")
	flag.IntVar(&o.Requests, "requests", 20000, "requests of each scenario")
	flag.IntVar(&o.Concurrency, "concurrency", 32, "requests at once")
	flag.IntVar(&o.Stored, "stored", 1000, "grants and refresh tokens that are stored before the load")
	flag.BoolVar(&o.JSON, "json", false, "print JSON")
	flag.StringVar(&o.Only, "only", "", "run one scenario")
	flag.StringVar(&o.Binary, "binary", "", "a valetkey binary; default: one built from this tree")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	folder, err := os.MkdirTemp("", "valetkey-load")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	if o.Binary == "" {
		o.Binary = filepath.Join(folder, "valetkey")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", o.Binary, "github.com/valetkey/valetkey/cmd/valetkey")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("build valetkey: %w", err)
		}
	}
	if o.Database == "" {
		o.Database = "sqlite:" + filepath.Join(folder, "load.db")
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	subject, err := startServer(ctx, o, folder)
	if err != nil {
		return err
	}
	defer subject.stop()
	floor, err := startFloor(ctx, self, filepath.Join(folder, "floor.db"), subject.url)
	if err != nil {
		return err
	}
	defer floor.stop()
	fmt.Fprintf(os.Stderr, "From exec to the first 200: %v. %d requests of each kind, %d at once.\n", subject.started.Round(time.Millisecond), o.Requests, o.Concurrency)

	// PostgreSQL's client costs more than SQLite's library; what is counted is the server's
	// own share.
	allowance := 1.0
	if strings.HasPrefix(o.Database, "postgres") {
		allowance = 1.5
	}
	var report []result
	for _, s := range scenarios() {
		if o.Only != "" && s.name != o.Only {
			continue
		}
		prepared, err := s.prepare(ctx, subject)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		ours, err := measure(ctx, subject, o, prepared)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		bare, err := measure(ctx, floor, o, s.floor(floor))
		if err != nil {
			return fmt.Errorf("floor of %s: %w", s.name, err)
		}
		r := result{Scenario: s.name, Limit: s.limit * allowance, Server: ours, Floor: bare, Ratio: ours.CPU / bare.CPU}
		report = append(report, r)
		if !o.JSON {
			fmt.Println(r)
		}
	}
	resident := subject.resident()
	if o.JSON {
		return json.NewEncoder(os.Stdout).Encode(map[string]any{
			"started_ms": subject.started.Milliseconds(), "resident_mib": resident, "stored": o.Stored, "scenarios": report,
		})
	}
	fmt.Printf("resident after the load: %.1f MiB\n", resident)
	return nil
}

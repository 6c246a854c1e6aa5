package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"valetkey": func() {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			ownProcess = true
			os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
		},
		"browser": runBrowser,
		"agent":   runAgent,
	})
}

// TestScripts runs testdata/*.txtar. In addition to testscript's own commands there are
//
//	port VAR           sets VAR to a free loopback port
//	get URL STATUS     fetches until the status is that, and writes the body to the file "body"
//	post URL FORM STATUS  posts a form, and writes the body to the file "body"
//	ready URL LINE     fetches until the body has the line
//	id FILE            sets ID to the first "id" of the JSON in a file
//	ref                sets REF to the reference in "body"
//	eventually PROGRAM ARG...  runs a program until it succeeds
//	expand FILE        replaces $NAME in a file
//	keypair NAME       creates a key and a certificate (token_test.go)
//	assertion KEY ISSUER SUBJECT AUDIENCE  signs a JWT
//	api PORT ISSUER [CERTIFICATE]  serves an API
//	mode FILE MODE     compares the mode of a file
//	served URL FILE    fetches until every kid that a list of keys in the file names is in the body
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("VALETKEY_MASTER_KEY", "")
			e.Setenv("VALETKEY_DATABASE", "")
			e.Setenv("VALETKEY_CLIENT_SECRET", "")
			e.Setenv("VALETKEY_CLIENT_ID", "")
			e.Setenv("VALETKEY_SERVER", "")
			e.Setenv("VALETKEY_API", "")
			e.Setenv("XDG_CONFIG_HOME", filepath.Join(e.WorkDir, "config"))
			e.Setenv("HOME", e.WorkDir)
			// With the race detector, each command would wait a second before it exits.
			e.Setenv("GORACE", "atexit_sleep_ms=20")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"port":       port,
			"get":        get,
			"ready":      ready,
			"post":       post,
			"id":         id,
			"ref":        ref,
			"eventually": eventually,
			"served":     served,
			"expand":     expand,
			"keypair":    keypair,
			"assertion":  assertion,
			"api":        serveAPI,
			"mode":       mode,
		},
	})
}

func port(ts *testscript.TestScript, _ bool, args []string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	defer listener.Close()
	ts.Setenv(args[0], fmt.Sprint(listener.Addr().(*net.TCPAddr).Port))
}

func id(ts *testscript.TestScript, _ bool, args []string) {
	found := regexp.MustCompile(`"id": "([^"]+)"`).FindStringSubmatch(ts.ReadFile(args[0]))
	if found == nil {
		ts.Fatalf("%s has no id", args[0])
	}
	ts.Setenv("ID", found[1])
}

func get(ts *testscript.TestScript, _ bool, args []string) {
	browser := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	tries := time.NewTicker(20 * time.Millisecond)
	defer tries.Stop()
	deadline := time.Now().Add(time.Minute)
	var last string
	for now := range tries.C {
		if now.After(deadline) {
			break
		}
		response, err := browser.Get(args[0])
		if err != nil {
			last = err.Error()
			continue
		}
		var body strings.Builder
		_ = response.Write(&body)
		response.Body.Close()
		last = response.Status
		if fmt.Sprint(response.StatusCode) == args[1] {
			ts.Check(os.WriteFile(ts.MkAbs("body"), []byte(body.String()), 0o600))
			return
		}
	}
	ts.Fatalf("%s: %s instead of %s", args[0], last, args[1])
}

func post(ts *testscript.TestScript, _ bool, args []string) {
	response, err := http.Post(args[0], "application/x-www-form-urlencoded", strings.NewReader(args[1]))
	ts.Check(err)
	defer response.Body.Close()
	var body strings.Builder
	ts.Check(response.Write(&body))
	ts.Check(os.WriteFile(ts.MkAbs("body"), []byte(body.String()), 0o600))
	if fmt.Sprint(response.StatusCode) != args[2] {
		ts.Fatalf("%s: %s instead of %s: %s", args[0], response.Status, args[2], body.String())
	}
}

func ready(ts *testscript.TestScript, _ bool, args []string) {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		get(ts, false, []string{args[0], "200"})
		if strings.Contains(ts.ReadFile("body"), args[1]) {
			return
		}
	}
	ts.Fatalf("%s never says %q, but\n%s", args[0], args[1], ts.ReadFile("body"))
}

var reference = regexp.MustCompile(`[0-9A-Z]{4}-[0-9A-Z]{4}`)

func ref(ts *testscript.TestScript, _ bool, _ []string) {
	found := reference.FindString(ts.ReadFile("body"))
	if found == "" {
		ts.Fatalf("there is no reference in the body")
	}
	ts.Setenv("REF", found)
}

// eventually is for what the server stores in the background, such as refusals.
func eventually(ts *testscript.TestScript, _ bool, args []string) {
	tries := time.NewTicker(20 * time.Millisecond)
	defer tries.Stop()
	deadline := time.Now().Add(time.Minute)
	for {
		err := ts.Exec(args[0], args[1:]...)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%v: %v", args, err)
		}
		<-tries.C
	}
}

// A kid is 128 bits in base64url.
var kid = regexp.MustCompile(`[\s"]([\w-]{22})[\s"]`)

func served(ts *testscript.TestScript, _ bool, args []string) {
	for _, found := range kid.FindAllStringSubmatch(ts.ReadFile(args[1]), -1) {
		id := found[1]
		for tries := 0; ; tries++ {
			get(ts, false, []string{args[0], "200"})
			if strings.Contains(ts.ReadFile("body"), id) {
				break
			}
			if tries == 200 {
				ts.Fatalf("%s never has %s", args[0], id)
			}
		}
	}
}

// Scripts rely on the exit codes.
func TestExitCodes(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("VALETKEY_MASTER_KEY", "")
	t.Setenv("VALETKEY_DATABASE", "")
	for name, text := range map[string]string{
		"right.yaml": "scopes:\n  - name: a\n", "wrong.yaml": "scopes:\n  - nme: a\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		args string
		want int
	}{
		{"--help", 0},
		{"version", 0},
		{"nonsense", exitUsage},
		{"check right.yaml", 0},
		{"check wrong.yaml", exitUsage},
		{"check nothing.yaml", exitUsage},
		{"diff right.yaml", 0},
		{"diff --exit-code right.yaml", exitDiff},
		{"apply wrong.yaml", exitUsage},
		{"apply right.yaml", 0},
		{"diff --exit-code right.yaml", 0},
		{"explain 0000-0000", exitFailed},
		{"explain 0000-0000 --database sqlite:nothing.db", exitUsage},
		{"apply --database postgres://127.0.0.1:1/x right.yaml", exitFailed},
		{"serve --listen 192.0.2.1:1 --issuer https://login.example.com", exitFailed},
		{"serve --listen 0.0.0.0:0", exitUsage},
	} {
		var out, log strings.Builder
		if got := run(t.Context(), strings.Fields(test.args), &out, &log); got != test.want {
			t.Errorf("valetkey %s exits with %d, not %d:\n%s%s", test.args, got, test.want, &out, &log)
		}
	}
}

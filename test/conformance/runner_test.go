package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// test is a module of the fake suite: where the browser is sent, the condition that asks
// for a picture afterwards, and how it ends. A module with the result WAITING does not end.
type test struct {
	visit, condition, result string
	reviewed                 time.Duration // after the upload of a screenshot
}

// fakeSuite implements the part of the suite's API that the runner uses.
type fakeSuite struct {
	tests    map[string]test
	mu       sync.Mutex
	started  map[string]bool
	visited  map[string]bool
	pictures map[string]string // what was uploaded
	uploaded map[string]time.Time
}

func (f *fakeSuite) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	reply := func(v any) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(v)
	}
	path := strings.Split(strings.TrimPrefix(r.URL.Path, "/api/"), "/")
	route := r.Method + " " + path[0]
	switch {
	case route == "POST plan":
		modules := []map[string]any{}
		for name := range f.tests {
			modules = append(modules, map[string]any{"testModule": name})
		}
		reply(map[string]any{"id": "plan", "modules": modules})
	case route == "POST runner" && len(path) == 1:
		reply(map[string]any{"id": r.URL.Query().Get("test")})
	case route == "POST runner" && path[1] == "browser":
		f.visited[path[2]] = true
		reply(map[string]any{})
	case route == "POST runner":
		f.started[path[1]] = true
		reply(map[string]any{})
	case route == "GET runner":
		address := []string{}
		if !f.visited[path[1]] {
			address = append(address, f.tests[path[1]].visit)
		}
		reply(map[string]any{"browser": map[string]any{"urls": address}})
	case route == "GET info":
		wants := f.tests[path[1]].condition != "" && f.pictures[path[1]] == ""
		switch {
		case !f.started[path[1]]:
			reply(state{Status: "CONFIGURED"})
		case !f.visited[path[1]] || wants || f.tests[path[1]].result == "WAITING" || time.Since(f.uploaded[path[1]]) < f.tests[path[1]].reviewed:
			reply(state{Status: "WAITING"})
		default:
			reply(state{Status: "FINISHED", Result: f.tests[path[1]].result})
		}
	case route == "GET log" && len(path) == 2:
		reply([]entry{{Source: "Condition", Message: "what went wrong", Result: "FAILURE"}})
	case route == "GET log":
		asked := []entry{{Source: "Earlier", Message: "a screenshot that was uploaded"}}
		if f.tests[path[1]].condition != "" && f.pictures[path[1]] == "" {
			asked = append(asked, entry{Source: f.tests[path[1]].condition, Upload: "x" + path[1]})
		}
		reply(asked)
	case route == "POST log" && path[3] == "x"+path[1]:
		content, _ := io.ReadAll(r.Body)
		_, encoded, _ := strings.Cut(string(content), ",")
		decoded, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		f.pictures[path[1]], f.uploaded[path[1]] = string(decoded), time.Now()
		reply(map[string]any{})
	default:
		http.NotFound(w, r)
	}
}

// site is the server under test: an error page, a page, and a sign-out.
func site() http.Handler {
	mux := http.NewServeMux()
	page := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(status)
			fmt.Fprintf(w, `<!DOCTYPE html><link rel="stylesheet" href="/style.css">%s`, body)
		}
	}
	mux.HandleFunc("GET /refuse", page(http.StatusBadRequest, "<h1>Refused</h1>"))
	mux.HandleFunc("GET /accept", page(http.StatusOK, "<h1>Welcome</h1>"))
	mux.HandleFunc("GET /sign-out", page(http.StatusOK, `<form method="post" action="/sign-out"><input name="interaction" value="1"></form>`))
	mux.HandleFunc("POST /sign-out", page(http.StatusOK, "<h1>You are signed out</h1>"))
	mux.HandleFunc("GET /style.css", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "h1{}") })
	return mux
}

// newRun returns a run against a fake suite. Its Chromium copies the page into the screenshot,
// so that a test sees which page it was.
func newRun(t *testing.T, tests map[string]test) (*run, *fakeSuite) {
	t.Helper()
	under := httptest.NewServer(site())
	t.Cleanup(under.Close)
	for name, c := range tests {
		c.visit = under.URL + c.visit
		tests[name] = c
	}
	fake := &fakeSuite{tests: tests, started: map[string]bool{}, visited: map[string]bool{}, pictures: map[string]string{}, uploaded: map[string]time.Time{}}
	suite := httptest.NewTLSServer(fake)
	t.Cleanup(suite.Close)
	directory := t.TempDir()
	camera := filepath.Join(directory, "camera")
	const script = "#!/bin/sh\nfor a in \"$@\"; do case $a in --screenshot=*) to=${a#--screenshot=};; file://*) from=${a#file://};; esac; done\nexec cp \"$from\" \"$to\"\n"
	if err := os.WriteFile(camera, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	report, err := readReport(filepath.Join(directory, "results.json"))
	if err != nil {
		t.Fatal(err)
	}
	return &run{
		suite: newSuite(suite.URL), server: &server{issuer: under.URL}, directory: directory, chromium: camera,
		report: report, file: filepath.Join(directory, "results.json"), versions: "Valetkey 1 against suite 2", patience: 4 * time.Second,
	}, fake
}

// TestRunner runs modules with every kind of result.
func TestRunner(t *testing.T) {
	for name, c := range map[string]struct {
		test    test
		result  string
		reason  string // part of one
		picture string // part of it
	}{
		"passes":                           {test: test{visit: "/accept", result: "PASSED"}, result: "PASSED"},
		"fails":                            {test: test{visit: "/accept", result: "FAILED"}, result: "FAILED", reason: "what went wrong"},
		"ends without a result":            {test: test{visit: "/accept"}, result: "FAILED", reason: `result ""`},
		"ends with an unknown result":      {test: test{visit: "/accept", result: "UNKNOWN"}, result: "FAILED", reason: `result "UNKNOWN"`},
		"requests the error page":          {test: test{visit: "/refuse", condition: "ExpectRedirectUriErrorPage", result: "REVIEW"}, result: "REVIEW", picture: "Refused"},
		"is slow after an upload":          {test: test{visit: "/refuse", condition: "ExpectRedirectUriErrorPage", result: "REVIEW", reviewed: 5 * time.Second}, result: "REVIEW", picture: "Refused"},
		"requests an error page, gets 200": {test: test{visit: "/accept", condition: "ExpectRedirectUriErrorPage", result: "REVIEW"}, result: "FAILED", reason: "status 200, want 400"},
		"requests the signed-out page":     {test: test{visit: "/sign-out", condition: "ExpectSuccessfulLogoutPage", result: "REVIEW"}, result: "REVIEW", picture: "You are signed out"},
		"requests a sign-in, gets 400":     {test: test{visit: "/refuse", condition: "ExpectSecondLoginPage", result: "REVIEW"}, result: "FAILED", reason: "was not shown"},
		"waits on an error page":           {test: test{visit: "/refuse", result: "WAITING"}, result: "FAILED", reason: "an error page at /refuse (status 400) instead of a redirect"},
		"requests an unknown screenshot":   {test: test{visit: "/accept", condition: "ExpectAurora", result: "REVIEW"}, result: "FAILED", reason: "unknown screenshot"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits some seconds for the suite
			r, fake := newRun(t, map[string]test{"module": c.test})
			if err := r.runPlan(t.Context(), &plan{Label: "basic"}, "", false); err != nil {
				t.Fatal(err)
			}
			got, _ := r.report.find("basic", module{Name: "module"})
			if got.Result != c.result || !strings.Contains(strings.Join(got.Reasons, "\n"), c.reason) {
				t.Errorf("result %q with reasons %q, want %q with %q", got.Result, got.Reasons, c.result, c.reason)
			}
			if got.Date != today() || got.Against != "Valetkey 1 against suite 2" {
				t.Errorf("date %q, versions %q", got.Date, got.Against)
			}
			if shown := fake.pictures["module"]; !strings.Contains(shown, c.picture) || (c.picture == "") != (shown == "") {
				t.Errorf("the screenshot shows %q, want %q", shown, c.picture)
			}
		})
	}
}

func TestRunnerRefusesAnEmptyPlan(t *testing.T) {
	r, _ := newRun(t, nil)
	if err := r.runPlan(t.Context(), &plan{Label: "basic"}, "", false); err == nil {
		t.Error("a plan without modules is a success")
	}
}

func TestPicturesAreChecked(t *testing.T) {
	const consent = `<form action="/consent"></form>`
	for name, c := range map[string]struct {
		condition, body string
		status          int
		problem         string
	}{
		"a logo":                    {"ExpectLoginPageWithLogo", consent + `<img src="data:image/png;base64,AA">`, 200, ""},
		"a logo that did not load":  {"ExpectLoginPageWithLogo", consent + `<img src="https://op.example/logo">`, 200, "shows no logo"},
		"no logo":                   {"ExpectLoginPageWithLogo", consent, 200, "shows no logo"},
		"a policy":                  {"ExpectLoginPageWithPolicyLink", consent + `<a href="https://rp.example/policy">privacy policy</a>`, 200, ""},
		"terms instead of a policy": {"ExpectLoginPageWithPolicyLink", consent + `<a href="https://rp.example/tos">terms of service</a>`, 200, "no link"},
		"terms that lead here":      {"ExpectLoginPageWithTosLink", consent + `<a href="https://op.example/tos">terms of service</a>`, 200, "no link"},
		"a second sign-in":          {"ExpectSecondLoginPage", `<form action="/sign-in"><input name="password"></form>`, 200, ""},
		"a throttled sign-in":       {"ExpectSecondLoginPage", `<form action="/sign-in"><input name="password"></form>`, 429, "status 429"},
		"an error page with a form": {"ExpectRedirectUriErrorPage", consent, 400, "has a form"},
		"a sign-out that asks":      {"ExpectSuccessfulLogoutPage", `signed out? <form action="/sign-out"></form>`, 200, "still asks"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := picture(c.condition, []page{{"https://op.example/page?code=1", c.status, c.body}})
			if (err == nil) != (c.problem == "") || err != nil && !strings.Contains(err.Error(), c.problem) {
				t.Errorf("got %v, want %q", err, c.problem)
			}
		})
	}
}

// Package httpscript runs scripts of HTTP exchanges that read like the examples of an RFC.
//
// A script is a txtar archive. Its comment describes it. A section whose name begins with
// "request" is a message in plain HTTP, as RFCs print it: a line that begins with a space
// continues the previous one, and the lines of a body are joined. The section "response" after it
// is the expected response. With update, responses are written to the file; review the diff.
//
// Values that differ from run to run (codes, tokens, references) have stable names in responses,
// such as $code1 or $refresh2. In later requests, a name is replaced with its value. A request may
// contain {x*70000} for a long text. It may begin with lines of the form "# wait 61s", which
// advances the clock, and "# browser mallory", which uses the cookies of another browser; other
// lines with # are comments. If the method in the first line is one of Host.Verbs, that function
// is called instead of sending a request.
package httpscript

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

// Host is the server that a script tests.
type Host struct {
	http.Handler
	// Verbs do what a request cannot do: a user decides, a client signs. They get the words after
	// the verb and, in r, the cookies of the browser.
	Verbs map[string]Verb
}

// Verb writes its response to w, or returns an error about the script.
type Verb func(w http.ResponseWriter, r *http.Request, words []string) error

// RunFiles runs each script that matches a pattern, each in a bubble of testing/synctest: time
// starts at 2000-01-01 and advances only when a script waits. start creates the host from the
// section "server.json".
func RunFiles(t *testing.T, pattern string, update bool, start func(t *testing.T, setup []byte) Host) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts at %s (%v)", pattern, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			before, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var after []byte
			defer func() { review(t, file, before, after, update) }() // even if the bubble failed
			synctest.Test(t, func(t *testing.T) {
				archive := txtar.Parse(before)
				s := &script{names: newNames(), browsers: map[string]map[string]string{}}
				archive.Files = s.run(t, archive.Files, start)
				after = txtar.Format(archive)
			})
		})
	}
}

// review compares the responses with those in the file, or writes them.
func review(t *testing.T, file string, before, after []byte, update bool) {
	t.Helper()
	if after == nil || bytes.Equal(before, after) {
		return
	}
	if !update {
		t.Errorf("the responses differ (-want +got); -update writes them:\n%s", cmp.Diff(string(before), string(after)))
		return
	}
	if err := os.WriteFile(file, after, 0o644); err != nil {
		t.Error(err)
	}
}

type script struct {
	host     Host
	names    *names
	browsers map[string]map[string]string // cookies by browser
	browser  string
}

// run sends the requests and returns the sections with the actual responses.
func (s *script) run(t *testing.T, sections []txtar.File, start func(*testing.T, []byte) Host) []txtar.File {
	t.Helper()
	var ran []txtar.File
	for _, section := range sections {
		switch {
		case section.Name == "server.json":
			s.host = start(t, section.Data)
			ran = append(ran, section)
		case strings.HasPrefix(section.Name, "request"):
			response, err := s.exchange(string(section.Data))
			if err != nil {
				t.Errorf("-- %s --\n%s\n%v", section.Name, bytes.TrimSpace(section.Data), err)
				response = "no response: " + err.Error() + "\n"
			}
			section.Data = []byte(strings.TrimRight(string(section.Data), "\n") + "\n\n")
			ran = append(ran, section, txtar.File{Name: "response", Data: []byte(response + "\n")})
		case section.Name == "response":
		default:
			t.Fatalf("a section must be server.json, request or response, got %q", section.Name)
		}
	}
	if s.host.Handler == nil {
		t.Fatal("the script has no server.json")
	}
	return ran
}

// exchange sends one request and returns the response as text.
func (s *script) exchange(text string) (string, error) {
	text, err := s.directives(text)
	if err != nil {
		return "", err
	}
	if text, err = s.names.expand(text); err != nil {
		return "", err
	}
	text = repeat.ReplaceAllStringFunc(text, func(found string) string {
		parts := repeat.FindStringSubmatch(found)
		count, err := strconv.Atoi(parts[2])
		if err != nil { // the pattern has digits only
			return found
		}
		return strings.Repeat(parts[1], min(count, 1<<20))
	})
	head, body, _ := strings.Cut(text, "\n\n")
	lines := unfold(head)
	if len(lines) == 0 {
		return "", fmt.Errorf("the request is empty")
	}
	words := strings.Fields(lines[0])
	w := httptest.NewRecorder()
	if verb, ok := s.host.Verbs[words[0]]; ok {
		r := s.request(http.MethodPost, &url.URL{Path: "/"}, body)
		if err := verb(w, r, words[1:]); err != nil {
			return "", err
		}
	} else {
		r, err := s.parse(words, lines[1:], body)
		if err != nil {
			return "", err
		}
		s.host.ServeHTTP(w, r)
	}
	synctest.Wait()
	return s.response(w)
}

// repeat matches a repeated character, such as {x*70000}.
var repeat = regexp.MustCompile(`\{(.)\*([0-9]+)\}`)

// directives executes the lines with # and returns the rest.
func (s *script) directives(text string) (string, error) {
	s.browser = ""
	for strings.HasPrefix(text, "#") {
		var line string
		line, text, _ = strings.Cut(text, "\n")
		words := strings.Fields(strings.TrimPrefix(line, "#"))
		if len(words) != 2 {
			continue
		}
		switch words[0] {
		case "wait":
			d, err := time.ParseDuration(words[1])
			if err != nil {
				return "", fmt.Errorf("wait: %w", err)
			}
			time.Sleep(d) // advances the bubble's clock
		case "browser":
			s.browser = words[1]
		}
	}
	return text, nil
}

// unfold joins lines that begin with a space to the previous one.
func unfold(head string) []string {
	var lines []string
	for line := range strings.SplitSeq(strings.TrimSpace(head), "\n") {
		if len(lines) > 0 && strings.HasPrefix(line, " ") {
			lines[len(lines)-1] += strings.TrimLeft(line, " ")
			continue
		}
		lines = append(lines, line)
	}
	return lines
}

func (s *script) parse(words, fields []string, body string) (*http.Request, error) {
	if len(words) < 2 || len(words) > 3 {
		return nil, fmt.Errorf("a request line must be METHOD TARGET, got %q", words)
	}
	target, err := url.ParseRequestURI(words[1])
	if err != nil {
		return nil, fmt.Errorf("request line: %w", err)
	}
	var joined strings.Builder
	for line := range strings.SplitSeq(body, "\n") {
		joined.WriteString(strings.TrimSpace(line))
	}
	r := s.request(words[0], target, joined.String())
	for _, field := range fields {
		name, value, ok := strings.Cut(field, ":")
		if !ok {
			return nil, fmt.Errorf("a header field must be Name: value, got %q", field)
		}
		value = strings.TrimSpace(value)
		if strings.EqualFold(name, "Host") {
			r.Host = value
			continue
		}
		r.Header.Add(name, value)
	}
	return r, nil
}

// request returns a request with the cookies of the browser.
func (s *script) request(method string, target *url.URL, body string) *http.Request {
	r := &http.Request{
		Method: method, URL: target, RequestURI: target.String(), Host: "server.example.com",
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), RemoteAddr: "192.0.2.1:1234",
	}
	cookies := s.browsers[s.browser]
	for _, name := range slices.Sorted(maps.Keys(cookies)) {
		r.AddCookie(&http.Cookie{Name: name, Value: cookies[name]})
	}
	return r
}

// response stores the cookies of a response and returns it as text.
func (s *script) response(w *httptest.ResponseRecorder) (string, error) {
	response := w.Result()
	for _, cookie := range response.Cookies() {
		if s.browsers[s.browser] == nil {
			s.browsers[s.browser] = map[string]string{}
		}
		if cookie.MaxAge < 0 {
			delete(s.browsers[s.browser], cookie.Name)
		} else {
			s.browsers[s.browser][cookie.Name] = cookie.Value
		}
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", fmt.Errorf("read response: %w", err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\n", response.StatusCode, http.StatusText(response.StatusCode))
	var names []string
	for name := range response.Header {
		if name != "Content-Length" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range response.Header[name] {
			fmt.Fprintf(&b, "%s: %s\n", name, value)
		}
	}
	if len(body) > 0 {
		var pretty bytes.Buffer
		if json.Indent(&pretty, body, "", "  ") == nil {
			body = pretty.Bytes()
		}
		fmt.Fprintf(&b, "\n%s\n", bytes.TrimRight(body, "\n"))
	}
	return s.names.shorten(b.String()), nil
}

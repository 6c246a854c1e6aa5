// Package httpscript runs scripts of HTTP exchanges that read like the examples of an RFC.
//
// A script is a txtar archive. Its comment says what it shows. A section whose name begins
// with "request" is a message in plain HTTP, as RFCs print it: a line that begins with a
// space continues the one before, and the lines of a body are joined. The section
// "response" after it is the answer; with update it is written, and the diff is the review.
//
// What differs from run to run (codes, tokens, references) has a stable name in answers,
// $code1 or $refresh2, and the name stands for the value in later requests. A request may
// hold {x*70000} for something long, and begin with lines of the form "# wait 61s", which lets time pass, and "# browser mallory",
// which uses another browser's cookies; other lines with # are comments. A first line
// whose method is one of Host.Verbs is no HTTP: it is done by that function.
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

// Host is what a script talks to.
type Host struct {
	http.Handler
	// Verbs do what no request does: a person decides, a client signs. They get the words
	// after the verb and, in r, the cookies of the browser.
	Verbs map[string]Verb
}

// Verb writes its answer to w, or says what is wrong with the script.
type Verb func(w http.ResponseWriter, r *http.Request, words []string) error

// RunFiles runs each script that a pattern matches, each in a bubble of testing/synctest,
// so that time begins at 2000-01-01 and passes only when a script says so. start makes the
// host from the section "server.json".
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
			defer func() { review(t, file, before, after, update) }() // also when the bubble failed
			synctest.Test(t, func(t *testing.T) {
				archive := txtar.Parse(before)
				s := &script{names: newNames(), browsers: map[string]map[string]string{}}
				archive.Files = s.run(t, archive.Files, start)
				after = txtar.Format(archive)
			})
		})
	}
}

// review compares the answers with those that the file holds, or writes them.
func review(t *testing.T, file string, before, after []byte, update bool) {
	t.Helper()
	if after == nil || bytes.Equal(before, after) {
		return
	}
	if !update {
		t.Errorf("the answers differ (-want +got); -update writes them:\n%s", cmp.Diff(string(before), string(after)))
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

// run returns the sections with the answers as they are.
func (s *script) run(t *testing.T, sections []txtar.File, start func(*testing.T, []byte) Host) []txtar.File {
	t.Helper()
	var ran []txtar.File
	for _, section := range sections {
		switch {
		case section.Name == "server.json":
			s.host = start(t, section.Data)
			ran = append(ran, section)
		case strings.HasPrefix(section.Name, "request"):
			answer, err := s.exchange(string(section.Data))
			if err != nil {
				t.Errorf("-- %s --\n%s\n%v", section.Name, bytes.TrimSpace(section.Data), err)
				answer = "no answer: " + err.Error() + "\n"
			}
			section.Data = []byte(strings.TrimRight(string(section.Data), "\n") + "\n\n")
			ran = append(ran, section, txtar.File{Name: "response", Data: []byte(answer + "\n")})
		case section.Name == "response":
		default:
			t.Fatalf("a section is server.json, request or response, not %q", section.Name)
		}
	}
	if s.host.Handler == nil {
		t.Fatal("the script has no server.json")
	}
	return ran
}

// exchange sends one request and returns the answer as text.
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
	return s.answer(w)
}

// repeat is how a script writes something long: {x*70000}.
var repeat = regexp.MustCompile(`\{(.)\*([0-9]+)\}`)

// directives obeys the lines with # and returns the rest.
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
			time.Sleep(d) // the bubble's clock
		case "browser":
			s.browser = words[1]
		}
	}
	return text, nil
}

// unfold joins lines that begin with a space to the one before.
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
		return nil, fmt.Errorf("a request line is METHOD TARGET, not %q", words)
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
			return nil, fmt.Errorf("a header field is Name: value, not %q", field)
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

// request makes a request with the cookies of the browser.
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

// answer keeps the cookies and returns the message as text.
func (s *script) answer(w *httptest.ResponseRecorder) (string, error) {
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
		return "", fmt.Errorf("read answer: %w", err)
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

package guides

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// guide is a guide that a test follows. Each of its blocks and commands must be used.
type guide struct {
	t        *testing.T
	name     string
	sections map[string]*section
}

// section is what is below a heading of a guide.
type section struct {
	guide *guide
	title string
	text  string
	// blocks are what is between fences, and commands the indented lines.
	blocks, commands []string
	used             map[string]bool
}

func openGuide(t *testing.T, name string) *guide {
	t.Helper()
	text, err := os.ReadFile("../../docs/guides/" + name)
	if err != nil {
		t.Fatal(err)
	}
	g := &guide{t, name, map[string]*section{}}
	s, fenced, block := g.section(""), false, ""
	for line := range strings.Lines(string(text)) {
		switch title, isHeading := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); {
		case strings.HasPrefix(line, "```"):
			if fenced = !fenced; !fenced {
				s.blocks, block = append(s.blocks, block), ""
			}
		case fenced:
			block += line
		case strings.HasPrefix(line, "#") && isHeading:
			s = g.section(strings.TrimSpace(title))
		case strings.HasPrefix(line, "    "):
			s.commands = append(s.commands, strings.TrimSpace(line))
		default:
			s.text += line
		}
	}
	t.Cleanup(func() {
		for _, s := range g.sections {
			for _, part := range append(slices.Clone(s.blocks), s.commands...) {
				if !s.used[part] && !t.Failed() {
					t.Errorf("nobody follows this part of %q in %s:\n%s", s.title, name, part)
				}
			}
		}
	})
	return g
}

func (g *guide) section(title string) *section {
	if g.sections[title] == nil {
		g.sections[title] = &section{guide: g, title: title, used: map[string]bool{}}
	}
	return g.sections[title]
}

// block returns a block of a section, with replacements: pairs of a text, which must be there, and what stands
// for it in the test.
func (g *guide) block(title string, n int, replace ...string) string {
	g.t.Helper()
	s := g.sections[title]
	if s == nil || n >= len(s.blocks) {
		g.t.Fatalf("%s has no block %d in %q", g.name, n, title)
	}
	s.used[s.blocks[n]] = true
	return g.replaced(s.blocks[n], replace)
}

// command returns a command of a section, with replacements.
func (g *guide) command(title string, n int, replace ...string) string {
	g.t.Helper()
	s := g.sections[title]
	if s == nil || n >= len(s.commands) {
		g.t.Fatalf("%s has no command %d in %q", g.name, n, title)
	}
	s.used[s.commands[n]] = true
	return g.replaced(s.commands[n], replace)
}

func (g *guide) replaced(text string, replace []string) string {
	g.t.Helper()
	for pair := range slices.Chunk(replace, 2) {
		if !strings.Contains(text, pair[0]) {
			g.t.Fatalf("%s no longer has %q in\n%s", g.name, pair[0], text)
		}
		text = strings.ReplaceAll(text, pair[0], pair[1])
	}
	return text
}

// says fails unless a section still promises something that the test looks at.
func (g *guide) says(title string, texts ...string) {
	g.t.Helper()
	for _, text := range texts {
		if s := g.sections[title]; s == nil || !strings.Contains(s.text, text) {
			g.t.Errorf("%s no longer says in %q: %s", g.name, title, text)
		}
	}
}

// built is the directory of the program, once a test has needed it.
var built string

// program builds the program once for all tests that follow guides with it.
var program = sync.OnceValues(func() (path string, err error) {
	if built, err = os.MkdirTemp("", "guides"); err != nil {
		return "", err
	}
	path = filepath.Join(built, "valetkey")
	if output, err := exec.Command("go", "build", "-o", path, "../../cmd/valetkey").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, output)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

// site is a server that runs with a configuration file of a guide.
type site struct {
	t       *testing.T
	root    string // a directory for files
	address string
	issuer  string
	log     string // a file
	process *exec.Cmd
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, root: t.TempDir(), address: freeAddress(t)}
	s.issuer, s.log = "http://localhost:"+port(s.address), filepath.Join(s.root, "log")
	t.Cleanup(s.stop)
	return s
}

// file writes a file, and returns its path.
func (s *site) file(name, content string) string {
	s.t.Helper()
	path := filepath.Join(s.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// run runs a command of a guide in the directory of the site.
func (s *site) run(command string) (output string, err error) {
	s.t.Helper()
	path, err := program()
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	shell := exec.CommandContext(ctx, "bash", "-c", command)
	shell.Dir, shell.Env = s.root, append(os.Environ(), "PATH="+filepath.Dir(path)+":"+os.Getenv("PATH"))
	both, err := shell.CombinedOutput()
	return string(both), err
}

// runs is run for a command that must succeed.
func (s *site) runs(command string) string {
	s.t.Helper()
	output, err := s.run(command)
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", command, err, output)
	}
	return output
}

// serve writes valetkey.yaml, checks it, and starts the server anew.
func (s *site) serve(parts ...string) {
	s.t.Helper()
	s.stop()
	base := fmt.Sprintf("issuer: %s\nlisten: %s\ndatabase: sqlite:%s\n", s.issuer, s.address, filepath.Join(s.root, "valetkey.db"))
	s.file("valetkey.yaml", base+strings.Join(parts, "\n"))
	s.runs("valetkey check valetkey.yaml")
	path, err := program()
	if err != nil {
		s.t.Fatal(err)
	}
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.process = exec.Command(path, "serve", "--config", "valetkey.yaml")
	s.process.Dir, s.process.Stdout, s.process.Stderr = s.root, log, log
	if err := s.process.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.until("the server is ready", func() bool {
		response, err := http.Get("http://" + s.address + "/readyz")
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
}

func (s *site) stop() {
	if s.process == nil {
		return
	}
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Error(err)
	}
	_ = s.process.Wait() // it was told to end
	s.process = nil
	if s.t.Failed() {
		s.t.Logf("the log of the server:\n%s", s.logged())
	}
}

func (s *site) logged() string {
	s.t.Helper()
	text, err := os.ReadFile(s.log)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// until waits for a condition.
func (s *site) until(what string, done func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("not within two minutes: %s\n%s", what, s.logged())
		}
	}
}

// browser returns a new browser without scripts.
func (s *site) browser() *visitor {
	s.t.Helper()
	return newVisitor(s.t, &http.Transport{DisableKeepAlives: true}) // servers are started anew
}

var texts = sync.OnceValues(func() (texts map[string]string, err error) {
	encoded, err := os.ReadFile("../../ui/messages/en.json")
	if err == nil {
		err = json.Unmarshal(encoded, &texts)
	}
	return texts, err
})

// english returns an English text of the pages, up to its first placeholder.
func english(key string) string {
	all, err := texts()
	if err != nil || all[key] == "" {
		panic(fmt.Sprintf("there is no text %s: %v", key, err))
	}
	text, _, _ := strings.Cut(all[key], "{")
	return strings.TrimSpace(text)
}

// Command specs writes docs/standards.md: how much of each specification is implemented, which
// files cite it, which scripts demonstrate it, and which attacks the tests try. Its test fails
// if the page is out of date.
package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const (
	page        = "docs/standards.md"
	divergences = "docs/divergences.md"
)

func main() {
	text, err := write(os.DirFS("."))
	if err == nil {
		err = os.WriteFile(page, text, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "specs:", err)
		os.Exit(1)
	}
}

// found is what the source files contain.
type found struct {
	files   map[string][]string // by specification: the directories and files that cite it
	scripts map[string][]string // by specification: the scripts that show it
	attacks map[string][]string // by id: the files with a test of it
}

var (
	testName = regexp.MustCompile(`func (?:Test|Fuzz)\w+`)
	nameID   = regexp.MustCompile(`[A-Z]{2}[0-9]{2}`)
	scriptID = regexp.MustCompile(`\b[A-Z]{2}-[0-9]{2}\b`)
)

// read reads the source files below root.
func read(root fs.FS) (*found, error) {
	f := &found{files: map[string][]string{}, scripts: map[string][]string{}, attacks: map[string][]string{}}
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != "." && (strings.HasPrefix(name, ".") || name == "node_modules" || path == "internal/specs") {
				return fs.SkipDir
			}
			return nil
		}
		if extension := filepath.Ext(path); extension != ".go" && extension != ".txtar" {
			return nil
		}
		text, err := fs.ReadFile(root, path)
		if err != nil {
			return err
		}
		f.add(path, string(text))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read sources: %w", err)
	}
	return f, nil
}

func (f *found) add(path, text string) {
	if strings.HasSuffix(path, "_test.go") {
		for _, name := range testName.FindAllString(text, -1) {
			for _, id := range nameID.FindAllString(name, -1) {
				f.attack(id[:2]+"-"+id[2:], path)
			}
		}
		return
	}
	if filepath.Base(path) == "doc.go" {
		return // an index of other files
	}
	// A comment may break a name over two lines.
	text = strings.ReplaceAll(text, "\n// ", " ")
	into := f.files
	if strings.HasSuffix(path, ".txtar") {
		into = f.scripts
		text = strings.ReplaceAll(text, "\n", " ")
		for _, id := range scriptID.FindAllString(text, -1) {
			f.attack(id, path)
		}
	}
	for _, s := range specifications() {
		if s.cited(text) {
			into[s.name] = append(into[s.name], path)
		}
	}
}

func (f *found) attack(id, path string) {
	if !slices.Contains(f.attacks[id], path) {
		f.attacks[id] = append(f.attacks[id], path)
	}
}

// cited reports whether a text names the specification.
func (s specification) cited(text string) bool {
	for rest := text; ; {
		at := strings.Index(rest, s.name)
		if at < 0 {
			return false
		}
		rest = rest[at+len(s.name):]
		if rest == "" || rest[0] < '0' || rest[0] > '9' { // RFC 803 is not RFC 8037
			return true
		}
	}
}

// write returns the page.
func write(root fs.FS) ([]byte, error) {
	f, err := read(root)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString("<!-- Written by go run ./internal/specs. Do not edit. -->\n# Standards\n\n" +
		"How much of each specification Valetkey implements, which files cite it, and which scripts demonstrate it.\n" +
		"Deliberate differences and choices are listed in [divergences.md](divergences.md).\n\n" +
		"| Specification | Implemented | Cited by | Scripts |\n|---|---|---|---|\n")
	for _, s := range specifications() {
		fmt.Fprintf(&b, "| [%s](%s)<br>%s | %s | %s | %s |\n", s.name, s.url, s.title, s.status, list(f.files[s.name]), list(f.scripts[s.name]))
	}
	b.WriteString("\n## Attacks that the tests try\n\nThe ids are those of a catalogue of weaknesses. They are in the names of tests and in the comments of scripts.\n\n| Id | Tests |\n|---|---|\n")
	for _, id := range slices.Sorted(maps.Keys(f.attacks)) {
		fmt.Fprintf(&b, "| %s | %s |\n", id, list(f.attacks[id]))
	}
	return b.Bytes(), nil
}

func list(paths []string) string {
	var links []string
	for _, path := range paths {
		name := strings.TrimSuffix(strings.TrimSuffix(path, ".txtar"), ".go")
		links = append(links, fmt.Sprintf("[%s](../%s)", strings.Replace(name, "authserver/testdata/", "", 1), path))
	}
	return strings.Join(links, ", ")
}

// missing returns the ids that have neither a test nor a reason in docs/divergences.md.
func missing(root fs.FS) ([]string, error) {
	f, err := read(root)
	if err != nil {
		return nil, err
	}
	reasons, err := fs.ReadFile(root, divergences)
	if err != nil {
		return nil, fmt.Errorf("read reasons: %w", err)
	}
	var ids []string
	for _, id := range attacks() {
		if f.attacks[id] == nil && !bytes.Contains(reasons, []byte("| "+id+" |")) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

package authserver

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// doc.go lists every file of this package. A pattern stands for all files that match it.
func TestDocListsEveryFile(t *testing.T) {
	source, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{"doc.go": true}
	for line := range strings.Lines(string(source)) {
		fields := strings.Fields(strings.TrimPrefix(line, "//"))
		if len(fields) > 1 && strings.HasPrefix(line, "//\t") {
			named[fields[0]] = true
		}
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for name := range named {
		matches := func(file string) bool { ok, _ := filepath.Match(name, file); return ok }
		if !slices.ContainsFunc(files, matches) {
			t.Errorf("doc.go names %s, which does not exist", name)
		}
	}
	for _, file := range files {
		names := func(name string) bool { ok, _ := filepath.Match(name, file); return ok }
		if !strings.HasSuffix(file, "_test.go") && !slices.ContainsFunc(slices.Collect(maps.Keys(named)), names) {
			t.Errorf("doc.go does not name %s", file)
		}
	}
}

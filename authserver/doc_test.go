package authserver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// doc.go is the index of this package: it names every file, with what is in it.
func TestTheIndexNamesEveryFile(t *testing.T) {
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
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.go") && !named[file] {
			t.Errorf("doc.go does not name %s", file)
		}
		delete(named, file)
	}
	for file := range named {
		t.Errorf("doc.go names %s, which does not exist", file)
	}
}

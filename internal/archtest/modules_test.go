package archtest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// allowed are the modules that oauth/go.mod may require, tests included. Each of them enters
// the module graph of every application that imports the client library.
var allowed = []string{
	"github.com/go-jose/go-jose/v4",
	"github.com/google/go-cmp",
	"golang.org/x/oauth2",
	"golang.org/x/sync",
}

// forbidden are modules that must not be in the module graph either. Tests that need them
// are in the root module, in test/client.
var forbidden = []string{
	module,
	"github.com/jackc/pgx/v5",
	"modernc.org/sqlite",
	"github.com/chromedp/chromedp",
	"github.com/boombuler/barcode",
}

type modFile struct {
	Require, Replace []struct{ Path string }
}

func readModFile(t *testing.T, dir string) (f modFile) {
	t.Helper()
	text, err := goCommand(dir, "mod", "edit", "-json").Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// goCommand runs go in a module's directory, as outside the workspace.
func goCommand(dir string, args ...string) *exec.Cmd {
	command := exec.Command("go", args...)
	command.Dir = dir
	command.Env = append(os.Environ(), "GOWORK=off")
	return command
}

func TestClientLibraryRequiresLittle(t *testing.T) {
	dir := filepath.Join("..", "..", "oauth")
	required := readModFile(t, dir).Require
	if len(required) == 0 {
		t.Error("oauth/go.mod requires nothing: it was not read")
	}
	for _, r := range required {
		if !slices.Contains(allowed, r.Path) {
			t.Errorf("oauth/go.mod must not require %s: every application that imports the client library would get it", r.Path)
		}
	}
	graph, err := goCommand(dir, "mod", "graph").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(graph)) {
		_, to, _ := strings.Cut(strings.TrimSpace(line), " ")
		if path, _, _ := strings.Cut(to, "@"); slices.Contains(forbidden, path) {
			t.Errorf("the module graph of oauth must not contain %s: %s", path, line)
		}
	}
}

// go install with a version refuses a module that has replace directives.
func TestModulesReplaceNothing(t *testing.T) {
	for _, dir := range []string{filepath.Join("..", ".."), filepath.Join("..", "..", "oauth")} {
		for _, r := range readModFile(t, dir).Replace {
			t.Errorf("%s/go.mod replaces %s: use go.work", dir, r.Path)
		}
	}
}

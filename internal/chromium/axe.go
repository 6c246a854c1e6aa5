package chromium

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

//go:embed axe/package.json axe/package-lock.json
var axePackage embed.FS

// Axe returns the source of axe-core, of the version in the directory axe. The test is skipped if npm
// cannot install it; in CI it fails.
func Axe(t *testing.T) string {
	t.Helper()
	unavailable := t.Skipf
	if os.Getenv("CI") == "true" {
		unavailable = t.Fatalf
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		unavailable("npm is not installed")
	}
	directory := t.TempDir()
	files, err := fs.Sub(axePackage, "axe")
	if err == nil {
		err = os.CopyFS(directory, files)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	install := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts")
	install.Dir = directory
	if output, err := install.CombinedOutput(); err != nil {
		unavailable("axe-core cannot be installed: %v\n%s", err, output)
	}
	source, err := os.ReadFile(filepath.Join(directory, "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	return string(source)
}

const findings = `axe.run(document, {resultTypes: ["violations"]}).then((result) => JSON.stringify(result.violations.map((v) => (
	{ID: v.id, Help: v.help, Nodes: v.nodes.map((n) => ({HTML: n.html, FailureSummary: n.failureSummary}))}))))`

// AxeFindings returns what axe-core, whose source Axe returned, finds on the page that is open: a text for each
// rule that it breaks, with the first three places.
func AxeFindings(ctx context.Context, source string) ([]string, error) {
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[string](source+`; "loaded"`)); err != nil {
		return nil, fmt.Errorf("load axe-core: %w", err)
	}
	result, err := chromedp.Run(ctx, chromedp.Evaluate[string](findings, chromedp.EvalAwaitPromise))
	if err != nil {
		return nil, fmt.Errorf("run axe-core: %w", err)
	}
	var found []struct {
		ID, Help string
		Nodes    []struct{ HTML, FailureSummary string }
	}
	if err := json.Unmarshal([]byte(result), &found); err != nil {
		return nil, fmt.Errorf("read the findings of axe-core: %w", err)
	}
	var texts []string
	for _, f := range found {
		text := f.ID + ": " + f.Help
		for _, node := range f.Nodes[:min(3, len(f.Nodes))] {
			text += "\n    " + node.HTML + "\n    " + strings.ReplaceAll(node.FailureSummary, "\n", "\n    ")
		}
		texts = append(texts, text)
	}
	return texts, nil
}

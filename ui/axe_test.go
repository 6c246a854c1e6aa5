package ui

import (
	"context"
	"encoding/json"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/valetkey/valetkey/internal/chromium"
)

// axe returns the source of axe-core, of the version in testdata/axe.
func axe(t *testing.T) string {
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
	if err := os.CopyFS(directory, os.DirFS("testdata/axe")); err != nil {
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

// finding is a rule of axe-core that a page breaks, and where.
type finding struct {
	ID, Help string
	Nodes    []struct {
		HTML           string
		FailureSummary string
	}
}

const findings = `axe.run(document, {resultTypes: ["violations"]}).then((result) => JSON.stringify(result.violations.map((v) => (
	{ID: v.id, Help: v.help, Nodes: v.nodes.map((n) => ({HTML: n.html, FailureSummary: n.failureSummary}))}))))`

// TestAxe: axe-core finds nothing on any page in light and dark, on a phone and on a desktop, and in
// English and Arabic. A page takes half a second, so each is tested in two of the eight combinations, and
// its neighbors in others.
func TestAxe(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	source := axe(t)
	ctx := chromium.Start(t, 15*time.Minute)
	server := httptest.NewServer(servePages(t, samplePages))
	defer server.Close()
	type shown struct {
		width          int64
		scheme, locale string
	}
	combinations := [][]shown{
		{{390, "light", "en"}, {1280, "dark", "ar"}}, {{390, "dark", "ar"}, {1280, "light", "en"}},
		{{390, "dark", "en"}, {1280, "light", "ar"}}, {{390, "light", "ar"}, {1280, "dark", "en"}},
	}
	for i, name := range slices.Sorted(maps.Keys(samplePages)) {
		for _, shown := range combinations[i%len(combinations)] {
			err := chromedp.Do(ctx, chromium.Scheme(shown.scheme), chromedp.EmulateViewport(shown.width, 844),
				chromedp.Navigate(server.URL+"/"+name+"?ui_locales="+shown.locale))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			eval(t, ctx, source+`; "loaded"`)
			result, err := chromedp.Run(ctx, chromedp.Evaluate[string](findings, chromedp.EvalAwaitPromise))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			var found []finding
			if err := json.Unmarshal([]byte(result), &found); err != nil {
				t.Fatal(err)
			}
			for _, f := range found {
				t.Errorf("%s, %d pixels, %s, %s: %s: %s", name, shown.width, shown.scheme, shown.locale, f.ID, f.Help)
				for _, node := range f.Nodes[:min(3, len(f.Nodes))] {
					t.Logf("    %s\n    %s", node.HTML, strings.ReplaceAll(node.FailureSummary, "\n", "\n    "))
				}
			}
		}
	}
}

// smallTargets returns what is smaller than 24 pixels, except for links within a text (WCAG 2.5.8).
const smallTargets = `[...document.querySelectorAll("button, a.button, input:not([type=hidden]), select, summary, a")].filter((e) => {
	const box = e.getBoundingClientRect();
	return e.checkVisibility() && !e.closest(".skip, p, .lead, .what") && !e.closest("[hidden]") && (box.width < 24 || box.height < 24);
}).map((e) => e.outerHTML.slice(0, 120)).join("\n")`

// withoutFocus returns what does not show that it has the focus, or has a place of its own in the order
// of the keyboard (WCAG 2.4.3 and 2.4.7).
const withoutFocus = `[...document.querySelectorAll("button, a, input:not([type=hidden]), select, summary")].filter((e) => {
	if (!e.checkVisibility() || e.closest("[hidden]")) return false;
	e.focus({focusVisible: true});
	const style = getComputedStyle(e);
	return document.activeElement !== e || e.tabIndex !== 0 || style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2;
}).map((e) => e.outerHTML.slice(0, 120)).join("\n")`

// TestTargetsAreLarge: what can be pressed has at least 24 pixels, and shows that it has the focus.
func TestTargetsAreLarge(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	ctx := chromium.Start(t, 5*time.Minute)
	server := httptest.NewServer(servePages(t, samplePages))
	defer server.Close()
	err := chromedp.Do(ctx, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
		return err
	}))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(samplePages)) {
		if err := chromedp.Do(ctx, chromedp.EmulateViewport(390, 844), chromedp.Navigate(server.URL+"/"+name)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if small := eval(t, ctx, smallTargets); small != "" {
			t.Errorf("%s: smaller than 24 pixels:\n%s", name, small)
		}
		if without := eval(t, ctx, withoutFocus); without != "" {
			t.Errorf("%s: without visible focus:\n%s", name, without)
		}
	}
}

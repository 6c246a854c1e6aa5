package ui

import (
	"context"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/valetkey/valetkey/internal/chromium"
)

// artifacts is where the pictures of the pages are kept.
const artifacts = "../test/artifacts/ui"

// pictured are the shapes in which a picture of every page is kept, by language.
var pictured = []struct {
	locale string
	shapes []chromium.Shape
}{
	{"en", []chromium.Shape{chromium.PhoneLight, chromium.PhoneDark, chromium.DesktopLight, chromium.DesktopDark}},
	{"ar", []chromium.Shape{chromium.PhoneLight, chromium.DesktopDark}},
	{"de", nil}, // has the longest words
}

// axeShapes are the shapes in which axe-core tests a page, by language. It takes half a second, so a page is
// tested in two of the eight combinations of size, color scheme and direction, and its neighbors in others.
var axeShapes = []map[string]chromium.Shape{
	{"en": chromium.PhoneLight, "ar": chromium.DesktopDark}, {"ar": chromium.PhoneDark, "en": chromium.DesktopLight},
	{"en": chromium.PhoneDark, "ar": chromium.DesktopLight}, {"ar": chromium.PhoneLight, "en": chromium.DesktopDark},
}

// TestEveryPage looks at every page on a phone and on a desktop, in light and dark, and in English and Arabic,
// and keeps pictures. axe-core finds nothing, text has enough contrast, what can be pressed is large, shows
// that it has the focus and is called as it is labeled, and nothing needs to be scrolled sideways.
func TestEveryPage(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	source := chromium.Axe(t)
	ctx := chromium.Start(t, 15*time.Minute)
	server := httptest.NewServer(servePages(t, samplePages))
	defer server.Close()
	err := chromedp.Do(ctx, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
		return err
	}))
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range slices.Sorted(maps.Keys(samplePages)) {
		for _, p := range pictured {
			page := name + "." + p.locale
			if err := chromedp.Do(ctx, chromedp.Navigate(server.URL+"/"+name+"?ui_locales="+p.locale)); err != nil {
				t.Fatalf("%s: %v", page, err)
			}
			for _, shape := range p.shapes {
				if err := shape.Picture(ctx, artifacts, page); err != nil {
					t.Fatalf("%s: %v", page, err)
				}
				fits(t, ctx, page+", "+shape.Name)
				if low := eval(t, ctx, contrasts); low != "" {
					t.Errorf("%s, %s: %s", page, shape.Name, low)
				}
			}
			if shape, ok := axeShapes[i%len(axeShapes)][p.locale]; ok {
				show(t, ctx, page, shape)
				found, err := chromium.AxeFindings(ctx, source)
				if err != nil {
					t.Fatalf("%s: %v", page, err)
				}
				for _, f := range found {
					t.Errorf("%s, %s: %s", page, shape.Name, f)
				}
			}
			if p.locale == "en" {
				show(t, ctx, page, chromium.PhoneLight)
				checkButtons(t, ctx, name)
				if small := eval(t, ctx, smallTargets); small != "" {
					t.Errorf("%s: smaller than 24 pixels:\n%s", page, small)
				}
				if without := eval(t, ctx, withoutFocus); without != "" {
					t.Errorf("%s: without visible focus:\n%s", page, without)
				}
			}
			show(t, ctx, page, chromium.Narrow)
			fits(t, ctx, page+", narrow")
			eval(t, ctx, longNames)
			fits(t, ctx, page+", narrow, with long names")
		}
	}
}

func show(t *testing.T, ctx context.Context, page string, shape chromium.Shape) {
	t.Helper()
	if err := shape.Show(ctx); err != nil {
		t.Fatalf("%s: %v", page, err)
	}
}

// longNames makes every name and address on a page as long as they can be, without a place where the line
// could break.
const longNames = `document.querySelectorAll("bdi, code").forEach((e) => {
	if (!e.closest(".codes, .usercode") && !e.firstElementChild) e.textContent = "W".repeat(254);
}), ""`

// fits fails if the page that is open would have to be scrolled sideways.
func fits(t *testing.T, ctx context.Context, page string) {
	t.Helper()
	overflow, err := chromium.Overflow(ctx)
	if err != nil {
		t.Fatalf("%s: %v", page, err)
	}
	if overflow > 0 {
		t.Errorf("%s: %d pixels too wide", page, overflow)
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

// contrasts lists the texts of a page whose contrast is below 4.5:1 (WCAG 1.4.3).
const contrasts = `(() => {
	const rgb = (text) => (text.match(/[\d.]+/g) || []).map(Number);
	const light = (c) => [0, 1, 2].map((i) => c[i] / 255).map((v) => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
		.reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
	const low = [];
	for (const e of document.querySelectorAll("body *")) {
		const text = [...e.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data.trim()).join("");
		if (!text || e.closest("[aria-hidden=true], .unseen, .skip, svg, noscript, script, [hidden]")) continue;
		let ground = e;
		while (ground && (rgb(getComputedStyle(ground).backgroundColor)[3] ?? 1) === 0) ground = ground.parentElement;
		const a = light(rgb(getComputedStyle(e).color)), b = light(rgb(getComputedStyle(ground || document.documentElement).backgroundColor));
		const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
		if (ratio < 4.5) low.push(text + " has a contrast of " + ratio.toFixed(2));
	}
	return low.join("; ");
})()`

// wantedButtons are accessible names of buttons, by page.
var wantedButtons = map[string][]string{
	"account":  {"Revoke access for Calendar", "Sign out of Safari on iPhone, signed in February 27, 2026"},
	"password": {"Show Current password", "Show New password"},
}

// checkButtons: the accessible name of each button of the page that is open begins with its visible label
// (WCAG 2.5.3), and no two have the same.
func checkButtons(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	labels := strings.Split(eval(t, ctx, `[...document.querySelectorAll("button")].filter((b) => b.checkVisibility()).map((b) => {
		const shown = b.cloneNode(true);
		shown.querySelectorAll(".unseen").forEach((e) => e.remove());
		return shown.textContent.trim();
	}).join("\n")`), "\n")
	names := buttonNames(t, ctx)
	if labels[0] == "" {
		labels = nil
	}
	if len(labels) != len(names) {
		t.Errorf("%s: labels %q, accessible names %q", name, labels, names)
		return
	}
	for i, label := range labels {
		if !strings.HasPrefix(names[i], label) {
			t.Errorf("%s: the button %q has the accessible name %q", name, label, names[i])
		}
	}
	for _, want := range wantedButtons[name] {
		if !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, want) }) {
			t.Errorf("%s: no button is called %q: %q", name, want, names)
		}
	}
	seen := map[string]bool{}
	for _, n := range names {
		if seen[n] {
			t.Errorf("%s: two buttons have the accessible name %q", name, n)
		}
		seen[n] = true
	}
}

// buttonNames returns the accessible names of a page's buttons, in order.
func buttonNames(t *testing.T, ctx context.Context) []string {
	t.Helper()
	var names []string
	err := chromedp.Do(ctx, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		tree, err := cdp.Call(ctx, target, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
		if err != nil {
			return err
		}
		nodes := map[accessibility.NodeID]*accessibility.Node{}
		for _, node := range tree.Nodes {
			nodes[node.NodeID] = node
		}
		var walk func(*accessibility.Node)
		walk = func(node *accessibility.Node) {
			if node == nil {
				return
			}
			if !node.Ignored && node.Role != nil && string(node.Role.Value) == `"button"` {
				names = append(names, strings.Trim(string(node.Name.Value), `"`))
			}
			for _, child := range node.ChildIDs {
				walk(nodes[child])
			}
		}
		walk(tree.Nodes[0])
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

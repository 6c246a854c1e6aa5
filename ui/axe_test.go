package ui

import (
	"context"
	"maps"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/valetkey/valetkey/internal/chromium"
)

// TestAxe: axe-core finds nothing on any page in light and dark, on a phone and on a desktop, and in
// English and Arabic. A page takes half a second, so each is tested in two of the eight combinations, and
// its neighbors in others.
func TestAxe(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	source := chromium.Axe(t)
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
			found, err := chromium.AxeFindings(ctx, source)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for _, f := range found {
				t.Errorf("%s, %d pixels, %s, %s: %s", name, shown.width, shown.scheme, shown.locale, f)
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

package ui

import (
	"context"
	"fmt"
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
	"github.com/valetkey/valetkey/ui/messages"
)

func manyScopes() []scopeView {
	scopes := []scopeView{{Words: text("scope.openid")}}
	for i := range 14 {
		scopes = append(scopes, scopeView{Name: fmt.Sprint(i), Words: messages.Plain(fmt.Sprintf("Read and change the documents of shelf %d", i)), Optional: i%2 == 0})
	}
	return scopes
}

// TestConsentOnAPhone checks that the buttons and the warning are visible without scrolling,
// however many scopes are requested, and that "Optional" is readable.
func TestConsentOnAPhone(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	ctx := chromium.Start(t, 5*time.Minute)
	long := samplePages["consent"]
	v := long.data.(consentView)
	v.Wanted = manyScopes()
	long.data = v
	warned := samplePages["consent-unvouched"]
	v = warned.data.(consentView)
	v.Wanted = manyScopes()
	warned.data = v
	server := httptest.NewServer(servePages(t, map[string]pageResponse{"long": long, "warned": warned}))
	defer server.Close()
	for _, name := range []string{"long", "warned"} {
		for _, scheme := range []string{"light", "dark"} {
			for _, scripts := range []bool{true, false} {
				err := chromedp.Do(ctx, chromium.Scripts(scripts), chromium.Scheme(scheme), chromedp.EmulateViewport(360, 640), chromedp.Navigate(server.URL+"/"+name))
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				for _, value := range []string{"allow", "deny"} {
					if hidden := eval(t, ctx, fmt.Sprintf(`(() => {
						const button = document.querySelector("button[value=%s]"), box = button.getBoundingClientRect();
						const at = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
						return box.top >= 0 && box.bottom <= innerHeight && box.left >= 0 && box.right <= innerWidth && at === button ? "" : JSON.stringify(box);
					})()`, value)); hidden != "" {
						t.Errorf("%s, %s: the button %s is not in view: %s", name, scheme, value, hidden)
					}
				}
			}
			if low := eval(t, ctx, contrasts); low != "" {
				t.Errorf("%s, %s: %s", name, scheme, low)
			}
		}
	}
}

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

func eval(t *testing.T, ctx context.Context, expression string) string {
	t.Helper()
	result, err := chromedp.Run(ctx, chromedp.Evaluate[string](expression))
	if err != nil {
		t.Fatalf("%v: %s", err, chromium.WhereIs(ctx))
	}
	return result
}

// TestPagesAreAccessible checks that text has enough contrast in both color schemes, and that
// the accessible name of each button begins with its visible label (WCAG 1.4.3 and 2.5.3).
func TestPagesAreAccessible(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	ctx := chromium.Start(t, 5*time.Minute)
	server := httptest.NewServer(servePages(t, samplePages))
	defer server.Close()
	wanted := map[string][]string{
		"account":  {"Revoke access for Calendar", "Sign out of Safari on iPhone, signed in February 27, 2026"},
		"password": {"Show Current password", "Show New password"},
	}
	for name := range samplePages {
		for _, scheme := range []string{"light", "dark"} {
			if err := chromedp.Do(ctx, chromium.Scheme(scheme), chromedp.EmulateViewport(390, 844), chromedp.Navigate(server.URL+"/"+name)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if low := eval(t, ctx, contrasts); low != "" {
				t.Errorf("%s, %s: %s", name, scheme, low)
			}
		}
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
			continue
		}
		for i, label := range labels {
			if !strings.HasPrefix(names[i], label) {
				t.Errorf("%s: the button %q has the accessible name %q", name, label, names[i])
			}
		}
		for _, want := range wanted[name] {
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

// TestTimesUseTheBrowsersTimeZone: without scripts, times are shown in UTC and say so.
func TestTimesUseTheBrowsersTimeZone(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	ctx := chromium.Start(t, 5*time.Minute)
	server := httptest.NewServer(servePages(t, samplePages))
	defer server.Close()
	zone := func(name string) chromedp.Action[chromedp.Void] {
		return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
			_, err := cdp.Call(ctx, target, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: name})
			return err
		})
	}
	for _, shown := range []struct {
		zone    string
		scripts bool
		want    []string
	}{
		{"Asia/Tokyo", true, []string{"March 1, 2026 at 9:00 PM", "February 27, 2026 at 4:31 PM"}},
		{"America/New_York", true, []string{"March 1, 2026 at 7:00 AM", "February 27, 2026 at 2:31 AM"}},
		{"Asia/Tokyo", false, []string{"1 March 2026, 12:00 UTC", "27 February 2026, 07:31 UTC"}},
	} {
		if err := chromedp.Do(ctx, chromium.Scripts(shown.scripts), zone(shown.zone), chromedp.Navigate(server.URL+"/account")); err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(eval(t, ctx, `document.querySelector("main").innerText`), "\u202f", " ")
		for _, want := range shown.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s, scripts %v: the page lacks %q:\n%s", shown.zone, shown.scripts, want, text)
			}
		}
	}
}

// The groups of a code are shown in their order on a page from right to left too.
func TestCodesFromRightToLeft(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	t.Parallel()
	ctx := chromium.Share(t, 5*time.Minute)
	server := httptest.NewServer(servePages(t, samplePages))
	defer server.Close()
	if err := chromedp.Do(ctx, chromedp.Navigate(server.URL+"/confirm-elsewhere?ui_locales=ar")); err != nil {
		t.Fatal(err)
	}
	order := eval(t, ctx, `(() => {
		const text = document.querySelector(".usercode code").firstChild, left = (at) => {
			const range = document.createRange();
			range.setStart(text, at);
			range.setEnd(text, at + 1);
			return range.getBoundingClientRect().left;
		};
		return getComputedStyle(document.body).direction + " " + (left(0) < left(5));
	})()`)
	if order != "rtl true" {
		t.Errorf("the direction of the page, and whether the first group is on the left: %s", order)
	}
}

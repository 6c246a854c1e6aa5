package ui

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

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

func eval(t *testing.T, ctx context.Context, expression string) string {
	t.Helper()
	result, err := chromedp.Run(ctx, chromedp.Evaluate[string](expression))
	if err != nil {
		t.Fatalf("%v: %s", err, chromium.WhereIs(ctx))
	}
	return result
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

// TestWithoutScripts: what only works with scripts is not there without them.
func TestWithoutScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	t.Parallel()
	ctx := chromium.Share(t, time.Minute)
	server := httptest.NewServer(servePages(t, samplePages))
	defer server.Close()
	for name, dead := range map[string]string{
		"sign-in-providers": ".passkey button", "passkeys": ".passkey button", "passkey": ".passkey button", "recovery-codes-new": "[data-copy], [data-print]",
	} {
		if err := chromedp.Do(ctx, chromium.Scripts(false), chromedp.Navigate(server.URL+"/"+name)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		shown := eval(t, ctx, fmt.Sprintf(`(() => {
			const dead = [...document.querySelectorAll(%q)];
			return dead.length === 0 ? "nothing that needs scripts" : dead.filter((e) => e.checkVisibility()).map((e) => e.outerHTML).join("\n");
		})()`, dead))
		if shown != "" {
			t.Errorf("%s shows: %s", name, shown)
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

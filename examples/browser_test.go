package examples

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/valetkey/valetkey/internal/chromium"
)

// testBrowser signs in to the two single-page applications in Chromium, and checks what the
// pages can read.
func (w *world) testBrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser")
	}
	w.start(t, strings.TrimPrefix(w.bff, "http://"), "bff", "-listen", strings.TrimPrefix(w.bff, "http://"), "-issuer", w.issuer, "-api", w.api)
	w.start(t, strings.TrimPrefix(w.spa, "http://"), "spa", "-listen", strings.TrimPrefix(w.spa, "http://"), "-issuer", w.issuer, "-api", w.api)
	ctx := chromium.Start(t, 5*time.Minute)
	do := func(what string, actions ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		patience, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if err := chromedp.Do(patience, actions...); err != nil {
			t.Fatalf("%s: %v\n%s", what, err, chromium.WhereIs(ctx))
		}
	}
	shown := func() string {
		t.Helper()
		text, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("body")))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	signIn := []chromedp.Action[chromedp.Void]{
		chromedp.WaitVisible(chromedp.CSS("#identifier")), chromedp.SendKeys(chromedp.CSS("#identifier"), "demo"),
		chromedp.SendKeys(chromedp.CSS("#password"), "valet-parking"), chromedp.Click(chromedp.CSS("main .primary")),
		chromedp.WaitVisible(chromedp.CSS("button[value=allow]")), chromedp.Click(chromedp.CSS("button[value=allow]")),
		chromedp.WaitVisible(chromedp.CSS("#notes li")),
	}
	do("open the page with a backend", chromedp.Navigate(w.bff+"/"), chromedp.WaitVisible(chromedp.CSS("#who a")), chromedp.Click(chromedp.CSS("#who a")))
	do("sign in", signIn...)
	if text := shown(); !strings.Contains(text, "Hello, Demo Person.") || !strings.Contains(text, "Water the plants") {
		t.Errorf("with a backend: %s", text)
	}
	t.Run("RS-15", func(t *testing.T) {
		kept, err := chromedp.Run(ctx, chromedp.Evaluate[string](`JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])`))
		if err != nil || strings.Contains(kept, "eyJ") || strings.Contains(kept, "vk_") || strings.Contains(kept, "bff-") {
			t.Errorf("the page can read %s (%v)", kept, err)
		}
		seen, err := chromedp.Run(ctx, chromedp.Evaluate[string](`Promise.all(["/auth/session", "/api/notes"].map(async path => {
			const answer = await fetch(path, {headers: {"X-CSRF": "1"}}); return JSON.stringify([...answer.headers]) + await answer.text() })).then(all => all.join())`, chromedp.EvalAwaitPromise))
		if err != nil || !strings.Contains(seen, "Water the plants") || strings.Contains(seen, "eyJ") || strings.Contains(seen, "vk_") {
			t.Errorf("the page sees %s (%v)", seen, err)
		}
	})
	do("sign out", chromedp.Click(chromedp.CSS("#sign-out button")), chromedp.WaitVisible(chromedp.CSS("#who a")))

	do("open the page without one", chromedp.Navigate(w.spa+"/"), chromedp.WaitVisible(chromedp.CSS("#sign-in")), chromedp.Click(chromedp.CSS("#sign-in")))
	do("sign in", signIn...)
	if text := shown(); !strings.Contains(text, "Water the plants") {
		t.Errorf("without a backend: %s", text)
	}
	kept, err := chromedp.Run(ctx, chromedp.Evaluate[string](`JSON.stringify([{...localStorage}, {...sessionStorage}, location.href])`))
	if want := `[{},{},"` + w.spa + `/"]`; err != nil || kept != want {
		t.Errorf("the page has stored %s (%v)", kept, err)
	}
	do("open an unsolicited authorization response", chromedp.Navigate(w.spa+"/?code=stolen&state=guessed&iss="+w.issuer), chromedp.WaitNotVisible(chromedp.CSS("#sign-in")))
	if text := shown(); !strings.Contains(text, "does not belong to a sign-in") {
		t.Errorf("unsolicited response: %s", text)
	}
}

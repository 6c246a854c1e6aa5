package ui

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/valetkey/valetkey/internal/chromium"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/record"
)

// TestInChromium goes from an application on another host through the pages and back, with and
// without scripts, to prove that the pages' security headers allow it.
func TestInChromium(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	ctx := chromium.Start(t, 5*time.Minute)
	w := newWorld(t)
	w.addAlice()
	application := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		rw.Write([]byte("<!DOCTYPE html><title>Back</title><p id=back>Welcome back"))
		if referer := r.Referer(); strings.HasPrefix(r.URL.Path, "/callback") && referer != "" {
			t.Errorf("AC-15: the application gets the Referer %s", referer)
		}
	}))
	defer application.Close()
	w.callback = strings.Replace(application.URL, "127.0.0.1", "localhost", 1) + "/callback"
	w.declare(declaration.Declaration{Clients: []record.Client{{ID: "printer", ClientMetadata: oauth.ClientMetadata{
		ClientName: "Photo Printer", RedirectURIs: []string{w.callback}, TokenEndpointAuthMethod: "none", Scope: "openid email photos.read photos.write",
	}}}})

	for _, scripts := range []bool{true, false} {
		err := chromedp.Do(ctx,
			chromium.Scripts(scripts),
			chromedp.Navigate(w.url+w.authorizeURL(map[string][]string{"prompt": {"login"}, "scope": {"openid email photos.read photos.write"}})),
			chromedp.SendKeys(chromedp.CSS("#identifier"), "alice"),
			chromedp.SendKeys(chromedp.CSS("#password"), password),
			chromedp.Click(chromedp.CSS("main .primary")),
			chromedp.Click(chromedp.CSS("button[value=allow]")),
			chromedp.WaitVisible(chromedp.CSS("#back")),
		)
		if err != nil {
			t.Fatalf("scripts %v: %v: %s", scripts, err, chromium.WhereIs(ctx))
		}
		where, err := chromedp.Run(ctx, chromedp.Location())
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(where, w.callback+"?") || !strings.Contains(where, "code=") {
			t.Errorf("scripts %v: the browser is at %s", scripts, where)
		}

		// From the account page, and a form there.
		err = chromedp.Do(ctx,
			chromedp.Navigate(w.url+"/account"),
			chromedp.Click(chromedp.CSS("button.danger")),
			chromedp.WaitVisible(chromedp.CSS(".notice")),
			chromedp.Click(chromedp.CSS("header button")),
			chromedp.Click(chromedp.CSS("a[href='/sign-in']")),
			chromedp.WaitVisible(chromedp.CSS("#identifier")),
		)
		if err != nil {
			t.Fatalf("scripts %v: %v: %s", scripts, err, chromium.WhereIs(ctx))
		}
	}
}

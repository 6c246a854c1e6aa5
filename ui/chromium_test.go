package ui

import (
	"cmp"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/chromedp"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/declaration"
)

// newChromium starts a browser with a profile of its own; the test is skipped where there
// is none.
func newChromium(t *testing.T) context.Context {
	t.Helper()
	path := cmp.Or(os.Getenv("CHROMIUM"), "/usr/bin/chromium")
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no Chromium: %v", err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	ctx, cancelBrowser := chromedp.NewExecAllocator(t.Context(), options...)
	ctx, cancel := chromedp.NewContext(ctx)
	t.Cleanup(func() { cancel(); cancelBrowser() })
	if err := chromedp.Do(ctx); err != nil { // the browser lives as long as the context of its first call
		t.Fatalf("start Chromium: %v", err)
	}
	// HD-12: a page that breaks its own policy, by a request to elsewhere for instance, says so here.
	err := chromedp.Listen(ctx, func(event any) {
		if e, ok := event.(*log.EventEntryAdded); ok && strings.Contains(e.Entry.Text, "Content Security Policy") {
			t.Errorf("Chromium says: %s", e.Entry.Text)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancelTimeout := context.WithTimeout(ctx, time.Minute)
	t.Cleanup(cancelTimeout)
	return ctx
}

// TestInChromium walks from an application on another host and back, with scripts and
// without: what the pages forbid must not forbid that.
func TestInChromium(t *testing.T) {
	if testing.Short() {
		t.Skip("a browser takes seconds")
	}
	ctx := newChromium(t)
	w := newWorld(t)
	w.addAlice()
	application := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		rw.Write([]byte("<!DOCTYPE html><title>Back</title><p id=back>Welcome back"))
		if referer := r.Referer(); strings.HasPrefix(r.URL.Path, "/callback") && referer != "" {
			t.Errorf("AC-15: the application learns of the page %s", referer)
		}
	}))
	defer application.Close()
	w.callback = strings.Replace(application.URL, "127.0.0.1", "localhost", 1) + "/callback"
	w.declare(declaration.Declaration{Clients: []authserver.Client{{ID: "printer", ClientMetadata: oauth.ClientMetadata{
		ClientName: "Photo Printer", RedirectURIs: []string{w.callback}, TokenEndpointAuthMethod: "none", Scope: "openid email photos.read photos.write",
	}}}})

	for _, scripts := range []bool{true, false} {
		withoutScripts := emulation.SetScriptExecutionDisabledParams{Value: !scripts}
		err := chromedp.Do(ctx,
			chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
				_, err := cdp.Call(ctx, target, emulation.SetScriptExecutionDisabled, withoutScripts)
				return err
			}),
			chromedp.Navigate(w.url+w.authorizeURL(map[string][]string{"prompt": {"login"}, "scope": {"openid email photos.read photos.write"}})),
			chromedp.SendKeys(chromedp.CSS("#identifier"), "alice"),
			chromedp.SendKeys(chromedp.CSS("#password"), password),
			chromedp.Click(chromedp.CSS("main .primary")),
			chromedp.Click(chromedp.CSS("button[value=allow]")),
			chromedp.WaitVisible(chromedp.CSS("#back")),
		)
		if err != nil {
			t.Fatalf("scripts %v: %v: %s", scripts, err, whereIs(ctx))
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
			t.Fatalf("scripts %v: %v: %s", scripts, err, whereIs(ctx))
		}
	}
}

// whereIs says what a browser shows, for a test that failed.
func whereIs(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	where, _ := chromedp.Run(ctx, chromedp.Location())
	html, _ := chromedp.Run(ctx, chromedp.OuterHTML(chromedp.CSS("html")))
	return where + "\n" + html
}

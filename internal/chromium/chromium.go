// Package chromium starts a real browser for tests.
package chromium

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// Start starts a browser with a fresh profile, which is closed at the end of the test or after
// limit. If Chromium is not installed, the test is skipped, or fails if CI=true. A violation of a
// page's Content-Security-Policy fails the test, except for frame-ancestors. more are additional
// options for the browser.
func Start(t *testing.T, limit time.Duration, more ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	ctx, stop, err := launch(t.Context(), installed(t), more)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return watched(t, ctx, limit)
}

// shared is the browser of Share, while a test uses it.
var shared struct {
	mu    sync.Mutex
	users int
	ctx   context.Context
	stop  func()
}

// Share is like Start, but the tests of a package that run in parallel have one browser, in which each
// has cookies and tabs of its own. The button that leads back loads pages again: chromedp loses those that
// come from the browser's cache of pages.
func Share(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	path := installed(t)
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.users == 0 {
		var err error
		if shared.ctx, shared.stop, err = launch(context.Background(), path, []chromedp.ExecAllocatorOption{chromedp.Flag("disable-back-forward-cache", true)}); err != nil {
			t.Fatal(err)
		}
	}
	shared.users++
	ctx, closeTab := chromedp.NewContext(shared.ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(func() {
		closeTab()
		shared.mu.Lock()
		defer shared.mu.Unlock()
		if shared.users--; shared.users == 0 {
			shared.stop()
		}
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	return watched(t, ctx, limit)
}

// installed returns the path of Chromium, or ends the test.
func installed(t *testing.T) string {
	t.Helper()
	path := find()
	if path == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("Chromium is not installed")
		}
		t.Skip("Chromium is not installed: install it, or set CHROMIUM to its path")
	}
	return path
}

func launch(ctx context.Context, path string, more []chromedp.ExecAllocatorOption) (browser context.Context, stop func(), err error) {
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	ctx, cancelBrowser := chromedp.NewExecAllocator(ctx, append(options, more...)...)
	ctx, cancel := chromedp.NewContext(ctx)
	stop = func() { cancel(); cancelBrowser() }
	if err := chromedp.Do(ctx); err != nil { // the browser runs as long as the context of its first call
		stop()
		return nil, nil, fmt.Errorf("start Chromium: %w", err)
	}
	return ctx, stop, nil
}

// watched returns the context of a tab that ends after limit, and fails the test if a page violates its
// policy.
func watched(t *testing.T, ctx context.Context, limit time.Duration) context.Context {
	t.Helper()
	err := chromedp.Listen(ctx, func(event any) {
		if e, ok := event.(*log.EventEntryAdded); ok && strings.Contains(e.Entry.Text, "Content Security Policy") &&
			!strings.Contains(e.Entry.Text, "frame-ancestors") {
			t.Errorf("Chromium logged: %s", e.Entry.Text)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancelTimeout := context.WithTimeout(ctx, limit)
	t.Cleanup(cancelTimeout)
	return ctx
}

func find() string {
	for _, name := range []string{os.Getenv("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"} {
		if name == "" {
			continue
		}
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// Scripts turns scripts on or off.
func Scripts(on bool) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
		return err
	})
}

// Scheme sets the preferred color scheme, "light" or "dark".
func Scheme(scheme string) chromedp.Action[chromedp.Void] {
	return media("prefers-color-scheme", scheme)
}

// media sets what the user prefers: pairs of a media feature and its value.
func media(features ...string) chromedp.Action[chromedp.Void] {
	var emulated emulation.SetEmulatedMediaParams
	for i := 0; i < len(features); i += 2 {
		emulated.Features = append(emulated.Features, &emulation.MediaFeature{Name: features[i], Value: features[i+1]})
	}
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulated)
		return err
	})
}

// WhereIs returns the URL and content of the page in the browser, for messages of failed tests.
func WhereIs(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	where, _ := chromedp.Run(ctx, chromedp.Location())
	html, _ := chromedp.Run(ctx, chromedp.OuterHTML(chromedp.CSS("html")))
	return where + "\n" + html
}

// OnNewDocument runs a script at the beginning of each page.
func OnNewDocument(script string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: script})
		return err
	})
}

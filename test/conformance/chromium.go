package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/chromedp/chromedp"
)

// realBrowser is Chromium with the same user, for modules that need frames and scripts:
// session management and front-channel logout.
type realBrowser struct {
	ctx    context.Context
	issuer string
}

// newRealBrowser starts a browser that ends with ctx.
func newRealBrowser(ctx context.Context, path, issuer string) (*realBrowser, func(), error) {
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("ignore-certificate-errors", true), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	ctx, stop := chromedp.NewExecAllocator(ctx, options...)
	ctx, cancel := chromedp.NewContext(ctx)
	end := func() { cancel(); stop() }
	if err := chromedp.Do(ctx); err != nil {
		end()
		return nil, nil, fmt.Errorf("start Chromium: %w", err)
	}
	return &realBrowser{ctx, issuer}, end, nil
}

// fillIn fills in the form of one of the server's pages, and reports whether there was one.
const fillIn = `(() => {
	const form = path => document.querySelector('form[action$="' + path + '"]');
	const signIn = form('/sign-in'), consent = form('/consent'), signOut = form('/sign-out');
	if (window.filledIn) return false;
	if (signIn) { signIn.identifier.value = 'ada'; signIn.password.value = 'correct horse battery staple'; signIn.querySelector('button.primary').click(); }
	else if (consent) { consent.querySelector('button[value=allow]').click(); }
	else if (signOut && signOut.interaction) { signOut.querySelector('button.primary, button').click(); }
	else return false;
	return window.filledIn = true;
})()`

// visit opens an address and fills in forms until the browser stays on a page of the suite.
func (b *realBrowser) visit(_ context.Context, address string) error {
	if err := chromedp.Do(b.ctx, chromedp.Navigate(address)); err != nil && !strings.Contains(err.Error(), "ERR_ABORTED") {
		return fmt.Errorf("visit %s: %w", address, err)
	}
	last, rested := "", 0
	for range 100 {
		time.Sleep(100 * time.Millisecond)
		where, err := chromedp.Run(b.ctx, chromedp.Location())
		if err != nil {
			return fmt.Errorf("read the browser's location: %w", err)
		}
		if strings.HasPrefix(where, b.issuer+"/") {
			// Between two pages there may be nothing to evaluate in.
			if acted, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](fillIn)); err != nil || acted {
				rested = 0
				continue
			}
		}
		if rested++; where != last {
			last, rested = where, 0
		}
		if rested > 20 {
			return nil
		}
	}
	return nil
}

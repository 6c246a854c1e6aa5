package chromium

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// Tab is a tab of a browser that a test uses as a person does: it fills in fields, presses buttons, and
// reads what the page shows. A step that fails ends the test.
type Tab struct {
	t       *testing.T
	Context context.Context
	scripts bool
}

// NewTab opens a tab in the browser of Share, with cookies of its own, and with or without scripts.
func NewTab(t *testing.T, limit time.Duration, scripts bool) *Tab {
	t.Helper()
	b := &Tab{t, Share(t, limit), scripts}
	b.Do(Scripts(scripts))
	return b
}

// WithAndWithoutScripts runs a test twice at the same time, in tabs whose pages may run scripts, and in tabs
// whose pages may not. open opens a tab with cookies of its own.
func WithAndWithoutScripts(t *testing.T, test func(t *testing.T, open func() *Tab)) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	t.Parallel()
	for _, scripts := range []bool{true, false} {
		t.Run(fmt.Sprintf("scripts %v", scripts), func(t *testing.T) {
			t.Parallel()
			test(t, func() *Tab { return NewTab(t, 5*time.Minute, scripts) })
		})
	}
}

// Another opens another tab with the same cookies.
func (b *Tab) Another() *Tab {
	b.t.Helper()
	ctx, closeTab := chromedp.NewContext(b.Context)
	b.t.Cleanup(closeTab)
	other := &Tab{b.t, ctx, b.scripts}
	other.Do(Scripts(b.scripts))
	return other
}

// Do runs actions.
func (b *Tab) Do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.Context, actions...); err != nil {
		b.t.Fatalf("scripts %v: %v: %s", b.scripts, err, WhereIs(b.Context))
	}
}

// Visit enters an address.
func (b *Tab) Visit(address string) {
	b.t.Helper()
	b.Do(chromedp.Navigate(address))
}

// Back presses the button of the browser that leads to the page before. It does not wait for that page.
func (b *Tab) Back() {
	b.t.Helper()
	history, err := chromedp.Call(b.Context, page.GetNavigationHistory, cdp.Empty{})
	if err == nil {
		before := history.Entries[history.CurrentIndex-1]
		_, err = chromedp.Call(b.Context, page.NavigateToHistoryEntry, page.NavigateToHistoryEntryParams{EntryID: before.ID})
	}
	if err != nil {
		b.t.Fatalf("scripts %v: go back: %v: %s", b.scripts, err, WhereIs(b.Context))
	}
}

// Fill types into fields, pairs of a selector and a text.
func (b *Tab) Fill(fields ...string) {
	b.t.Helper()
	for i := 0; i < len(fields); i += 2 {
		b.Do(chromedp.Clear(chromedp.CSS(fields[i])), chromedp.SendKeys(chromedp.CSS(fields[i]), fields[i+1]))
	}
}

// Press clicks on what a selector finds first.
func (b *Tab) Press(selector string) {
	b.t.Helper()
	b.Do(chromedp.Click(chromedp.CSS(selector)))
}

// Submit fills in fields, and presses the main button of the page.
func (b *Tab) Submit(fields ...string) {
	b.t.Helper()
	b.Fill(fields...)
	b.Press("main .primary")
}

// Shows waits until the page shows a text.
func (b *Tab) Shows(text string) {
	b.t.Helper()
	b.wait(fmt.Sprintf("the page shows %q", text), fmt.Sprintf(`String(document.readyState === "complete" && document.body.innerText.includes(%q))`, text))
}

// Has waits until the page has what a selector finds.
func (b *Tab) Has(selector string) {
	b.t.Helper()
	b.wait("the page has "+selector, fmt.Sprintf(`String(document.readyState === "complete" && document.querySelector(%q) !== null)`, selector))
}

// Gone waits until the page no longer has what a selector finds.
func (b *Tab) Gone(selector string) {
	b.t.Helper()
	b.wait("the page lacks "+selector, fmt.Sprintf(`String(document.readyState === "complete" && document.querySelector(%q) === null)`, selector))
}

// wait waits until an expression is "true". Between two pages there is nothing that could evaluate it.
func (b *Tab) wait(what, expression string) {
	b.t.Helper()
	for b.Context.Err() == nil {
		if result, err := chromedp.Run(b.Context, chromedp.Evaluate[string](expression)); err == nil && result == "true" {
			return
		}
		_ = chromedp.Do(b.Context, chromedp.Sleep(20*time.Millisecond)) // polls; the context has a deadline
	}
	b.t.Fatalf("scripts %v: it is not true that %s: %s", b.scripts, what, WhereIs(b.Context))
}

// Evaluate returns the text that an expression yields.
func (b *Tab) Evaluate(expression string) string {
	b.t.Helper()
	result, err := chromedp.Run(b.Context, chromedp.Evaluate[string](expression))
	if err != nil {
		b.t.Fatalf("scripts %v: %v: %s", b.scripts, err, WhereIs(b.Context))
	}
	return result
}

// Texts returns the text of each element that a selector finds.
func (b *Tab) Texts(selector string) []string {
	b.t.Helper()
	joined := b.Evaluate(fmt.Sprintf(`[...document.querySelectorAll(%q)].map((e) => e.textContent.trim()).join("\u0000")`, selector))
	if joined == "" {
		return nil
	}
	return strings.Split(joined, "\x00")
}

// Address returns where the tab is.
func (b *Tab) Address() string {
	b.t.Helper()
	address, err := chromedp.Run(b.Context, chromedp.Location())
	if err != nil {
		b.t.Fatal(err)
	}
	return address
}

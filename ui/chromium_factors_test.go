package ui

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/chromium"
)

// In Chromium, with and without scripts: a second factor from its set-up to the sign-in, with the code of
// the app and with a recovery code.
func TestSecondFactorInChromium(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	ctx := chromium.Start(t, 5*time.Minute)
	w := newWorld(t)
	for _, scripts := range []bool{true, false} {
		name := map[bool]string{true: "alice", false: "bob"}[scripts]
		w.addUser(identity.User{ID: name, Username: name, PasswordHash: passwordHash()})
		do := func(actions ...chromedp.Action[chromedp.Void]) {
			t.Helper()
			if err := chromedp.Do(ctx, actions...); err != nil {
				t.Fatalf("scripts %v: %v: %s", scripts, err, chromium.WhereIs(ctx))
			}
		}
		text := func(selector string) string {
			t.Helper()
			text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`[...document.querySelectorAll("`+selector+`")].map(e => e.textContent).join(",")`))
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
		password := func() {
			t.Helper()
			do(chromedp.Navigate(w.url+"/sign-in"),
				chromedp.SendKeys(chromedp.CSS("#identifier"), name),
				chromedp.SendKeys(chromedp.CSS("#password"), password),
				chromedp.Click(chromedp.CSS("main .primary")))
		}
		do(chromium.Scripts(scripts))
		password()
		do(chromedp.Click(chromedp.CSS("a[href='"+newTOTPPath+"']")), chromedp.WaitVisible(chromedp.CSS(".qr svg path")))
		key := text(".key code")
		do(chromedp.SendKeys(chromedp.CSS("#code"), codeOf(t, key, -1)),
			chromedp.SendKeys(chromedp.CSS("#name"), "Phone"),
			chromedp.Click(chromedp.CSS("main .primary")),
			// The recovery codes are offered at once.
			chromedp.Click(chromedp.CSS("form[action='"+recoveryCodesPath+"'] .primary")),
			chromedp.WaitVisible(chromedp.CSS(".codes code")))
		codes := strings.Split(text(".codes code"), ",")
		if len(codes) != 10 {
			t.Fatalf("scripts %v: the page shows the codes %q", scripts, codes)
		}
		if visible := text("button[data-print]:not([hidden])") != ""; visible != scripts {
			t.Errorf("scripts %v: the button that prints is visible: %v", scripts, visible)
		}
		do(chromedp.Click(chromedp.CSS("main a.primary")), chromedp.WaitVisible(chromedp.CSS("#methods")),
			chromedp.Click(chromedp.CSS("header button")), chromedp.WaitVisible(chromedp.CSS("a[href='/sign-in']")))

		password()
		do(chromedp.Click(chromedp.CSS("a[href='"+proveTOTPPath+"']")),
			chromedp.SendKeys(chromedp.CSS("#code"), codeOf(t, key, 0)),
			chromedp.Click(chromedp.CSS("main .primary")),
			chromedp.WaitVisible(chromedp.CSS("#methods")),
			chromedp.Click(chromedp.CSS("header button")), chromedp.WaitVisible(chromedp.CSS("a[href='/sign-in']")))

		password()
		do(chromedp.Click(chromedp.CSS("a[href='"+proveTOTPPath+"']")),
			chromedp.SendKeys(chromedp.CSS("#code"), "000000"),
			chromedp.Click(chromedp.CSS("main .primary")),
			chromedp.WaitVisible(chromedp.CSS("#alert")),
			chromedp.Click(chromedp.CSS("a[href='"+factorPath+"']")),
			chromedp.Click(chromedp.CSS("a[href='"+proveRecoveryCodePath+"']")),
			chromedp.SendKeys(chromedp.CSS("#code"), strings.ToUpper(codes[3])),
			chromedp.Click(chromedp.CSS("main .primary")),
			chromedp.WaitVisible(chromedp.CSS("#methods")),
			chromedp.Click(chromedp.CSS("header button")), chromedp.WaitVisible(chromedp.CSS("a[href='/sign-in']")))
	}
}

// In Chromium, with and without scripts: a sign-in with the link and with the code of a message.
func TestEmailSignInInChromium(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	ctx := chromium.Start(t, 5*time.Minute)
	w := newWorldWithEmailSignIn(t)
	w.addVerifiedAlice()
	first := true
	for _, scripts := range []bool{true, false} {
		for _, byLink := range []bool{true, false} {
			err := chromedp.Do(ctx,
				chromium.Scripts(scripts),
				chromedp.Navigate(w.url+"/sign-in"),
				chromedp.Click(chromedp.CSS("a[href='"+signInEmailPath+"']")),
				chromedp.SendKeys(chromedp.CSS("#identifier"), "alice"),
				chromedp.Click(chromedp.CSS("main .primary")),
				chromedp.WaitVisible(chromedp.CSS("#code")),
			)
			if err != nil {
				t.Fatalf("scripts %v: %v: %s", scripts, err, chromium.WhereIs(ctx))
			}
			message := w.received()
			w.scan(w.linkIn(message))
			if byLink {
				err = chromedp.Do(ctx, chromedp.Navigate(w.url+w.linkIn(message)))
			} else {
				err = chromedp.Do(ctx, chromedp.SendKeys(chromedp.CSS("#code"), codeIn(t, message)))
			}
			if err != nil {
				t.Fatal(err)
			}
			err = chromedp.Do(ctx,
				chromedp.Click(chromedp.CSS("main .primary")),
				chromedp.WaitVisible(chromedp.CSS("#methods")),
				chromedp.Click(chromedp.CSS("header button")),
				chromedp.WaitVisible(chromedp.CSS("a[href='/sign-in']")),
			)
			if err != nil {
				t.Fatalf("scripts %v, link %v: %v: %s", scripts, byLink, err, chromium.WhereIs(ctx))
			}
			if first {
				w.received() // about the new sign-in
				first = false
			}
		}
	}
}

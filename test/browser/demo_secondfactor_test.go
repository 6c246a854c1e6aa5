package browser

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/valetkey/valetkey/demo"
	"github.com/valetkey/valetkey/internal/chromium"
)

func TestDemoSecondFactor(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	ctx := chromium.Start(t, 4*time.Minute)
	d, err := demo.Start(t.Context(), t.Output(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	v := &visit{t, ctx, filepath.Join(artifacts, "second-factor")}
	v.do("use a phone without scripts", chromium.Scripts(false), chromedp.EmulateViewport(390, 844))
	v.walkSecondFactor(d.URL())
}

// walkSecondFactor sets up an authenticator app while signing in, with the one of the demo.
func (v *visit) walkSecondFactor(start string) {
	v.do("open the scene", chromedp.Navigate(start+"?scene=secondfactor#secondfactor"), chromedp.Click(chromedp.CSS("#secondfactor button.primary")))
	v.do("sign in with a password", chromedp.WaitVisible(chromedp.CSS("#identifier")), chromedp.SendKeys(chromedp.CSS("#password"), "fortran-no-1"), chromedp.Click(chromedp.CSS("main .primary")))
	v.do("choose to set up a second factor", chromedp.WaitVisible(chromedp.CSS(`form[action$="/sign-in/factor"] .primary`)), chromedp.Click(chromedp.CSS(`form[action$="/sign-in/factor"] .primary`)))
	v.do("wait for the choice", chromedp.WaitVisible(chromedp.CSS(`a[href$="/account/totp/new"]`)))
	v.do("choose an app", chromedp.Click(chromedp.CSS(`a[href$="/account/totp/new"]`)), chromedp.WaitVisible(chromedp.CSS(".qr svg")))
	code := v.codeFor(start, v.evaluate(`document.querySelector(".key code").textContent`))
	v.do("enter the code", chromedp.SendKeys(chromedp.CSS("#code"), code), chromedp.Click(chromedp.CSS(`form[action$="/account/totp/new"] .primary`)))
	v.do("wait for the next page", chromedp.WaitVisible(chromedp.CSS(".emblem"))) // the page before has such a link, too
	v.do("continue without recovery codes", chromedp.Click(chromedp.CSS(".answers a.secondary")), chromedp.WaitVisible(chromedp.CSS("button[value=allow]")))
	v.allow()
	v.do("wait for the result", chromedp.WaitVisible(chromedp.CSS("#secondfactor .result:not(.refused)")))
	if text := v.text("#secondfactor .result"); !strings.Contains(text, `"acr": "2"`) || !strings.Contains(text, `"otp"`) {
		v.Errorf("the result is %s", text)
	}
	v.picture("secondfactor")
	v.press("secondfactor", "replay")
	v.refused("secondfactor", "replay", "RFC 6238, section 5.2")
}

// codeFor enters a key into the authenticator app of the demo, in another tab, and returns the code.
func (v *visit) codeFor(start, key string) string {
	v.Helper()
	app := v.tab()
	app.do("open the authenticator app", chromedp.Navigate(start+"authenticator"), chromedp.SendKeys(chromedp.CSS("#key"), "not a key!"), chromedp.Click(chromedp.CSS("form .primary")))
	app.do("wait for the alert", chromedp.WaitVisible(chromedp.CSS("#alert")))
	app.do("enter the key", chromedp.SendKeys(chromedp.CSS("#key"), key), chromedp.Click(chromedp.CSS("form .primary")), chromedp.WaitVisible(chromedp.CSS("#code")))
	app.picture("authenticator")
	return app.text("#code")
}

package browser

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"

	"github.com/valetkey/valetkey/demo"
	"github.com/valetkey/valetkey/internal/chromium"
)

// The scenes with a passkey and with another provider, as a visitor walks through them.
func TestDemoPasskeyAndProvider(t *testing.T) {
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
	if _, err := chromedp.Call(ctx, webauthn.Enable, webauthn.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	_, err = chromedp.Call(ctx, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: "ctap2", Ctap2version: "ctap2_1", Transport: "internal", HasResidentKey: true, HasUserVerification: true,
		IsUserVerified: true, AutomaticPresenceSimulation: true,
	}})
	if err != nil {
		t.Fatal(err)
	}
	v := &visit{t, ctx, filepath.Join(artifacts, "sign-in")}
	v.walkPasskey(d.URL())
	// A page offers passkeys in the field for the username, and this authenticator accepts at once.
	if _, err := chromedp.Call(ctx, webauthn.Disable, cdp.Empty{}); err != nil {
		t.Fatal(err)
	}
	v.walkProvider(d.URL())
}

// walkPasskey sets up a passkey while signing in.
func (v *visit) walkPasskey(start string) {
	v.do("open the scene", chromedp.Navigate(start+"?scene=passkey#passkey"), chromedp.Click(chromedp.CSS("#passkey button.primary")))
	v.do("sign in with a password", chromedp.WaitVisible(chromedp.CSS("#identifier")), chromedp.SendKeys(chromedp.CSS("#password"), "apollo-no-11"), chromedp.Click(chromedp.CSS("form .secret ~ .primary")))
	v.do("choose to set up a second factor", chromedp.WaitVisible(chromedp.CSS(`form[action$="/sign-in/factor"] .primary`)), chromedp.Click(chromedp.CSS(`form[action$="/sign-in/factor"] .primary`)))
	v.do("choose a passkey", chromedp.WaitVisible(chromedp.CSS(`a[href$="/account/passkeys"]`)), chromedp.Click(chromedp.CSS(`main a[href$="/account/passkeys"]`)))
	v.do("create it", chromedp.WaitVisible(chromedp.CSS(`form[data-passkey="create"] button`)), chromedp.Click(chromedp.CSS(`form[data-passkey="create"] button`)))
	v.do("continue without recovery codes", chromedp.WaitVisible(chromedp.CSS(".answers a.secondary")), chromedp.Click(chromedp.CSS(".answers a.secondary")), chromedp.WaitVisible(chromedp.CSS("button[value=allow]")))
	v.allow()
	v.do("wait for the result", chromedp.WaitVisible(chromedp.CSS("#passkey .result:not(.refused)")))
	if text := v.text("#passkey .result"); !strings.Contains(text, `"acr": "phr"`) {
		v.Errorf("the result is %s", text)
	}
	v.picture("passkey")
	v.press("passkey", "phishing")
	v.refused("passkey", "phishing", "the signed origin is that of the server")
}

// walkProvider signs in with the company's provider, which creates an account.
func (v *visit) walkProvider(start string) {
	v.do("open the scene", chromedp.Navigate(start+"?scene=upstream#upstream"), chromedp.Click(chromedp.CSS("#upstream button.primary")))
	v.do("choose the provider", chromedp.WaitVisible(chromedp.CSS("form.provider button")), chromedp.Click(chromedp.CSS("form.provider button")))
	v.do("sign in there", chromedp.WaitNotPresent(chromedp.CSS("form.provider")), chromedp.WaitVisible(chromedp.CSS("#password")),
		chromedp.SendKeys(chromedp.CSS("#identifier"), "grace"), chromedp.SendKeys(chromedp.CSS("#password"), "compiler-no-1"), chromedp.Click(chromedp.CSS("main form .primary")))
	v.do("allow it there", chromedp.WaitVisible(chromedp.CSS("button[value=allow]")), chromedp.Click(chromedp.CSS("button[value=allow]")))
	for !strings.Contains(v.evaluate("document.title"), "Intranet") && v.ctx.Err() == nil {
		v.do("wait for the app's consent", chromedp.Sleep(50*time.Millisecond)) // the context has a deadline
	}
	v.allow()
	v.do("wait for the result", chromedp.WaitVisible(chromedp.CSS("#upstream .result:not(.refused)")))
	v.picture("upstream")
	v.press("upstream", "csrf")
	v.refused("upstream", "csrf", "RFC 6749, section 10.12")
}

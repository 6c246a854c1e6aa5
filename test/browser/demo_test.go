// Package browser tests the pages and the demo in Chromium, with and without scripts, on a phone
// and on a desktop.
package browser

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/valetkey/valetkey/demo"
	"github.com/valetkey/valetkey/internal/chromium"
)

// patience is the timeout for one step.
const patience = time.Minute

// artifacts is the directory for screenshots.
const artifacts = "../artifacts/browser"

// A picture of each step takes longer than the step.
var pictures = flag.Bool("pictures", false, "write a picture of each step to "+artifacts+", not only of those that fail")

const failed = "failed"

// forgetCookies deletes all cookies, like a fresh browser.
func forgetCookies() chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, network.ClearBrowserCookies, cdp.Empty{})
		return err
	})
}

type visit struct {
	*testing.T
	ctx    context.Context
	folder string
}

func (v *visit) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	v.Helper()
	ctx, cancel := context.WithTimeout(v.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		v.picture(failed)
		v.Fatalf("%s: %v\n%s", what, err, chromium.WhereIs(v.ctx))
	}
}

func (v *visit) text(selector string) string {
	v.Helper()
	text, err := chromedp.Run(v.ctx, chromedp.Text(chromedp.CSS(selector)))
	if err != nil {
		v.Fatalf("read %s: %v\n%s", selector, err, chromium.WhereIs(v.ctx))
	}
	return text
}

func (v *visit) picture(name string) {
	if name != failed && !*pictures {
		return
	}
	v.Helper()
	ctx, cancel := context.WithTimeout(v.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		v.Errorf("take a picture of %s: %v", name, err)
		return
	}
	if err := os.MkdirAll(v.folder, 0o755); err != nil {
		v.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(v.folder, name+".png"), png, 0o644); err != nil {
		v.Fatal(err)
	}
}

func (v *visit) signIn() {
	v.Helper()
	v.do("sign in",
		chromedp.SendKeys(chromedp.CSS("#identifier"), demo.Username),
		chromedp.SendKeys(chromedp.CSS("#password"), demo.Password),
		chromedp.Click(chromedp.CSS("main .primary")))
}

func (v *visit) allow() {
	v.Helper()
	v.do("consent", chromedp.Click(chromedp.CSS("button[value=allow]")))
}

func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	for _, variant := range []struct {
		name          string
		scripts       bool
		width, height int64
		scheme        string
	}{
		{"desktop-scripts", true, 1280, 800, "light"},
		{"phone-without-scripts", false, 390, 844, "dark"},
		{"phone-scripts", true, 390, 844, "light"},
		{"desktop-without-scripts", false, 1280, 800, "dark"},
	} {
		t.Run(variant.name, func(t *testing.T) {
			t.Parallel() // each visitor waits for tokens to expire
			ctx := chromium.Share(t, 9*time.Minute)
			d, err := demo.Start(t.Context(), t.Output(), 3*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			})
			v := &visit{t, ctx, filepath.Join(artifacts, variant.name)}
			v.do("open the demo", chromium.Scripts(variant.scripts), chromium.Scheme(variant.scheme),
				chromedp.EmulateViewport(variant.width, variant.height), chromedp.Navigate(d.URL()))
			v.picture("start")
			v.index()
			v.walkWeb()
			v.walkNative()
			v.walkService()
			v.walkImplicit(d.URL(), variant.scripts)
			v.walkDevice(d.URL())
			if variant.scripts != (variant.width < 500) { // once on each size
				v.walkApproval(d.URL())
				v.walkOthers(d.URL())
			}
			overflow, err := chromedp.Run(ctx, chromedp.Evaluate[int](`document.documentElement.scrollWidth - innerWidth`))
			if err != nil || overflow > 0 {
				t.Errorf("the page is %d pixels too wide (%v)", overflow, err)
			}
		})
	}
}

// press clicks a button that breaks a scene.
func (v *visit) press(scene, how string) {
	v.Helper()
	v.do("press "+how, chromedp.Click(chromedp.CSS(fmt.Sprintf("#%s button[value=%q]", scene, how))))
}

// refused waits for the refusal of a scene and checks that it shows the rule.
func (v *visit) refused(scene, how, rule string) {
	v.Helper()
	v.do("wait for the refusal of "+how, chromedp.WaitVisible(chromedp.CSS(fmt.Sprintf("#%s .result.refused[data-how=%q]", scene, how))))
	if text := v.text("#" + scene + " .result"); !strings.Contains(text, rule) {
		v.Errorf("%s, %s: the refusal does not contain %q:\n%s", scene, how, rule, text)
	}
	if open := v.evaluate(fmt.Sprintf(`String([...document.querySelectorAll("#%s .message.refused > details")].map((d) => d.open))`, scene)); !strings.HasSuffix(open, "true") || strings.Contains(open, "false") {
		v.Errorf("%s, %s: the refused message is not open: %q", scene, how, open)
	}
	v.picture(scene + "-" + how)
}

func (v *visit) evaluate(expression string) string {
	v.Helper()
	result, err := chromedp.Run(v.ctx, chromedp.Evaluate[string](expression))
	if err != nil {
		v.Fatalf("%v\n%s", err, chromium.WhereIs(v.ctx))
	}
	return result
}

func (v *visit) answered(scene string) {
	v.Helper()
	v.do("wait for the result", chromedp.WaitVisible(chromedp.CSS("#"+scene+" .result:not(.refused)")))
	if text := v.text("#" + scene + " .result"); !strings.Contains(text, "lighthouse.jpg") {
		v.Errorf("%s: the result is %s", scene, text)
	}
	if said := v.text("#" + scene + " .messages"); !strings.Contains(said, "Call the API with the access token") {
		v.Errorf("%s: the messages are %s", scene, said)
	}
}

// index follows a link in the list of scenes, which also works without scripts.
func (v *visit) index() {
	v.Helper()
	v.do("choose a scene", chromedp.Click(chromedp.CSS(`nav a[href="/?scene=status#status"]`)), chromedp.WaitVisible(chromedp.CSS("#status[open] button.primary")))
	listed := v.evaluate(`[...document.querySelectorAll("nav li a")].map(a => a.hash.slice(1)).join(" ")`)
	scenes := v.evaluate(`[...document.querySelectorAll("main > .scene")].map(scene => scene.id).join(" ")`)
	if listed != scenes || !strings.Contains(scenes, "web native service") {
		v.Errorf("the list has the scenes\n%s\nand the page has\n%s", listed, scenes)
	}
}

func (v *visit) walkWeb() {
	v.do("start", chromedp.Click(chromedp.CSS("#web button.primary")))
	v.do("wait for the sign-in page", chromedp.WaitVisible(chromedp.CSS("#identifier")))
	v.picture("sign-in")
	v.signIn()
	v.do("wait for the consent page", chromedp.WaitVisible(chromedp.CSS("button[value=allow]")))
	v.picture("consent")
	if text := v.text("main"); strings.Contains(text, "Allow this only") {
		v.Errorf("the first consent page is a warning:\n%s", text)
	}
	v.allow()
	v.answered("web")
	if hint := v.evaluate(`getComputedStyle(document.querySelector("#web .message .expand"), "::before").content`); hint != `"Show"` {
		v.Errorf("the page does not show that a message can be expanded: %s", hint)
	}
	v.do("open the messages", chromedp.Click(chromedp.CSS("#web .message:last-child summary")))
	if text := v.text("#web .message:last-child .exchange"); !strings.Contains(text, "{\n") && !strings.Contains(text, "[\n") {
		v.Errorf("the JSON is not indented:\n%s", text)
	}
	v.picture("web")
	// The user is signed in and has consented, so new codes are issued without a page.
	for _, b := range []struct{ how, rule string }{
		{"replay", "RFC 6749, section 4.1.2"}, {"verifier", "RFC 7636, section 4.6"}, {"redirect", "RFC 9700, section 2.1"},
		{"redirect-token", "RFC 6749, section 4.1.3"}, {"expired", "RFC 9068, section 4"}, {"scope", "RFC 6750, section 3.1"},
	} {
		v.press("web", b.how)
		v.refused("web", b.how, b.rule)
	}
}

// walkNative has to consent each time, because any program on the device could be the client.
func (v *visit) walkNative() {
	v.do("start", chromedp.Click(chromedp.CSS("#native button.primary")))
	v.do("wait for the consent page", chromedp.WaitVisible(chromedp.CSS("button[value=deny]")))
	v.picture("consent-native")
	v.do("deny", chromedp.Click(chromedp.CSS("button[value=deny]")))
	v.do("wait for the refusal", chromedp.WaitVisible(chromedp.CSS("#native .result.refused")))
	if text := v.text("#native .result"); !strings.Contains(text, "the user allows the request") {
		v.Errorf("the result of a denial is %s", text)
	}
	v.picture("native-denied")
	v.do("start again", chromedp.Click(chromedp.CSS("#native button.primary")))
	v.allow()
	v.answered("native")
	v.press("native", "verifier")
	v.allow()
	v.refused("native", "verifier", "RFC 7636, section 4.6")
}

func (v *visit) walkService() {
	v.do("start", chromedp.Click(chromedp.CSS("#service button.primary")))
	v.answered("service")
	for _, b := range []struct{ how, rule string }{
		{"secret", "RFC 6749, section 5.2"}, {"ask-scope", "RFC 6749, section 4.4.2"}, {"scope", "RFC 6750, section 3.1"},
	} {
		v.press("service", b.how)
		v.refused("service", b.how, b.rule)
	}
}

// walkImplicit requires scripts, because the fragment is not sent to the server.
func (v *visit) walkImplicit(start string, scripts bool) {
	v.do("open the scene", chromedp.Navigate(start+"?scene=implicit#implicit"), chromedp.Click(chromedp.CSS("#implicit button.primary")))
	v.do("wait for the consent page", chromedp.WaitVisible(chromedp.CSS("button[value=allow]")))
	v.allow()
	if !scripts {
		v.do("wait for the explanation", chromedp.WaitVisible(chromedp.CSS("noscript p")))
		return
	}
	v.answered("implicit")
	v.press("implicit", "nonce")
	v.refused("implicit", "nonce", "OpenID Connect Core")
}

// walkDevice opens the page in the same tab, like a user with only one device.
func (v *visit) walkDevice(start string) {
	v.do("open the scene", chromedp.Navigate(start+"?scene=device#device"), chromedp.Click(chromedp.CSS("#device button.primary")))
	v.do("wait for the code", chromedp.WaitVisible(chromedp.CSS("#device .wait img")))
	v.picture("device-waits")
	if drawn, err := chromedp.Run(v.ctx, chromedp.Evaluate[int](`document.querySelector("#device .wait img").naturalWidth`)); err != nil || drawn < 29 {
		v.Errorf("the QR code is %d pixels wide (%v)", drawn, err)
	}
	page, err := chromedp.Run(v.ctx, chromedp.Evaluate[string](`document.querySelector("#device .waits a").href`))
	if err != nil {
		v.Fatal(err)
	}
	address, code, _ := strings.Cut(page, "?user_code=")
	v.do("type a wrong code", chromedp.Navigate(address), chromedp.SendKeys(chromedp.CSS("#user_code"), "bbbb bbbb"), chromedp.Click(chromedp.CSS("main .primary")))
	v.do("wait for the alert", chromedp.WaitVisible(chromedp.CSS("#alert")))
	v.picture("device-unknown-code")
	v.do("type the code in lower case, with a space", chromedp.Clear(chromedp.CSS("#user_code")),
		chromedp.SendKeys(chromedp.CSS("#user_code"), strings.ToLower(strings.Replace(code, "-", " ", 1))), chromedp.Click(chromedp.CSS("main .primary")))
	v.do("wait for the consent page", chromedp.WaitVisible(chromedp.CSS("button[value=allow]")))
	if text := v.text("main"); !strings.Contains(text, code) || !strings.Contains(text, "Living room television") {
		v.Errorf("the page does not show the code to compare, %s:\n%s", code, text)
	}
	v.picture("device-consent")
	v.allow()
	v.do("wait for the confirmation", chromedp.WaitVisible(chromedp.CSS(".emblem.good")))
	v.picture("device-connected")
	v.do("continue", chromedp.Navigate(start+"?scene=device#device"), chromedp.Click(chromedp.CSS("#device .waits button.primary")),
		chromedp.WaitNotPresent(chromedp.CSS("#device .waits")))
	v.answered("device")
	v.press("device", "other")
	v.refused("device", "other", "RFC 8628, section 3.4")
}

// walkApproval opens the account page in the same tab, like a user with only one device.
func (v *visit) walkApproval(start string) {
	v.do("open the scene", chromedp.Navigate(start+"?scene=approval#approval"), chromedp.Click(chromedp.CSS("#approval button.primary")))
	v.do("wait for the instruction", chromedp.WaitVisible(chromedp.CSS("#approval .wait")))
	v.picture("approval-waits")
	page := v.evaluate(`document.querySelector("#approval .waits a").href`)
	v.do("open the account page", chromedp.Navigate(page), chromedp.Click(chromedp.CSS(`a[href*="/approve?request="]`)))
	v.do("wait for the consent page", chromedp.WaitVisible(chromedp.CSS("button[value=allow]")))
	if text := v.text("main"); !strings.Contains(text, "W4SCT") || !strings.Contains(text, "Photo shop call center") {
		v.Errorf("the page does not show the text to compare:\n%s", text)
	}
	v.picture("approval-consent")
	v.allow()
	v.do("wait for the confirmation", chromedp.WaitVisible(chromedp.CSS(".emblem.good")))
	v.do("continue", chromedp.Navigate(start+"?scene=approval#approval"), chromedp.Click(chromedp.CSS("#approval .waits button.primary")),
		chromedp.WaitNotPresent(chromedp.CSS("#approval .waits")))
	v.answered("approval")
	v.press("approval", "stranger")
	v.refused("approval", "stranger", "CIBA Core, section 8")
}

// walkOthers starts all other scenes, and breaks some of them.
func (v *visit) walkOthers(start string) {
	for _, scene := range []struct {
		key, says string
		consent   bool
		how, rule string
	}{
		{"password", "lighthouse.jpg", false, "", ""},
		{"firstparty", "lighthouse.jpg", false, "", ""},
		{"workload", "lighthouse.jpg", false, "neighbour", "RFC 6749, section 5.2"},
		{"backend", "lighthouse.jpg", false, "", ""},
		{"exchange", `"act"`, true, "", ""},
		{"transaction", "on_behalf_of", true, "", ""},
		{"stolen", "lighthouse.jpg", true, "own-key", "RFC 9068, section 4"},
		{"pushed", "The photo is deleted", true, "pushed", "RFC 6750, section 3.1"},
		{"payment", "24.90", true, "amount", "RFC 9396, section 9"},
		{"idjag", "wiki-at-chat", true, "", ""},
		{"assertion", "lighthouse.jpg", false, "again", "RFC 7523, section 3"},
		{"saml", "lighthouse.jpg", false, "changed", "RFC 7522, section 3"},
		{"mcp", "", false, "", ""},
		{"policy", "", false, "refused", ""},
		{"status", "guineas", false, "past", "draft-ietf-oauth-status-list"},
		{"revocation", "has ended", true, "", ""},
	} {
		v.do("open "+scene.key, chromedp.Navigate(start+"?scene="+scene.key+"#"+scene.key), chromedp.Click(chromedp.CSS("#"+scene.key+" button.primary")))
		if scene.consent {
			v.do("wait for the consent page of "+scene.key, chromedp.WaitVisible(chromedp.CSS("button[value=allow]")))
			v.picture(scene.key + "-consent")
			v.allow()
		}
		v.do("wait for the result of "+scene.key, chromedp.WaitVisible(chromedp.CSS("#"+scene.key+" .result:not(.refused)")))
		if text := v.text("#" + scene.key + " .result"); !strings.Contains(text, scene.says) {
			v.Errorf("%s: the result is %s", scene.key, text)
		}
		v.picture(scene.key)
		if scene.how != "" {
			v.press(scene.key, scene.how)
			if scene.key == "stolen" || scene.key == "payment" { // asks for consent each time
				v.do("wait for the second consent page of "+scene.key, chromedp.WaitVisible(chromedp.CSS("button[value=allow]")))
				v.allow()
			}
			v.refused(scene.key, scene.how, scene.rule)
		}
	}
}

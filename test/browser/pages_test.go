package browser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/chromedp"

	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/demo"
	"github.com/valetkey/valetkey/internal/chromium"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// world is a server with one application, whose callback shows the parameters it received.
type world struct {
	*authservertest.Server
	callback string
}

func newWorld(t *testing.T, lifetimes configuration.Lifetimes) *world {
	application := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<!DOCTYPE html><title>Back</title><p id=back>%s", r.FormValue("state")+" "+r.FormValue("error"))
	}))
	t.Cleanup(application.Close)
	w := &world{callback: application.URL + "/callback"}
	w.Server = authservertest.NewServer(t, authservertest.Config{Lifetimes: lifetimes, Declarations: configuration.Declarations{
		Clients: []configuration.Client{{ID: "app", Secret: "0123456789abcdef0123456789abcdef", ClientMetadata: oauth.ClientMetadata{
			ClientName: "Photo printer", RedirectURIs: []string{w.callback}, Scope: "openid profile photos",
		}}},
		Users:  []configuration.User{{Username: demo.Username, Password: demo.Password, Name: "Ada Lovelace"}},
		Scopes: []record.Scope{{Name: "photos", Description: "See your photos"}},
	}})
	return w
}

// address returns the URL of an authorization request.
func (w *world) address(state string, changed ...string) string {
	query := url.Values{
		"client_id": {"app"}, "response_type": {"code"}, "redirect_uri": {w.callback}, "scope": {"openid profile photos"},
		"state": {state}, "code_challenge": {oauth.S256Challenge(oauth.NewCodeVerifier())}, "code_challenge_method": {"S256"},
	}
	for i := 0; i+1 < len(changed); i += 2 {
		query.Set(changed[i], changed[i+1])
	}
	return w.Issuer + "/authorize?" + query.Encode()
}

// tab opens another tab of the same browser.
func (v *visit) tab() *visit {
	ctx, cancel := chromedp.NewContext(v.ctx)
	v.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil { // the tab stays open as long as the context of its first call
		v.Fatalf("open a tab: %v", err)
	}
	return &visit{v.T, ctx, v.folder}
}

func (v *visit) shows(what, selector, text string) {
	v.Helper()
	v.do(what, chromedp.WaitVisible(chromedp.CSS(selector)))
	if shown := v.text(selector); !strings.Contains(shown, text) {
		v.Errorf("%s: the page contains %q", what, shown)
	}
}

func TestPagesInChromium(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	ctx := chromium.Start(t, 3*time.Minute)
	start := func(t *testing.T) *visit {
		v := &visit{t, ctx, filepath.Join(artifacts, "pages")}
		v.do("begin", forgetCookies(), chromium.Scripts(true), chromedp.EmulateViewport(1280, 800))
		return v
	}
	for name, test := range map[string]func(*visit){
		"SE15_TwoTabsSignInTogether": twoTabs,
		"BackAfterConsent":           backAfterConsent,
		"ExpiredRequest":             expiredRequest,
		"CancelSignIn":               cancelSignIn,
		"BookmarkInAFreshBrowser":    bookmark,
		"ErrorPages":                 errorPages,
		"UntickingAScope":            untickingAScope,
		"CN05_NoFrame":               noFrame,
		"SignInInAPopup":             signInInAPopup,
		"KeyboardOnly":               keyboardOnly,
	} {
		t.Run(name, func(t *testing.T) { test(start(t)) })
	}
}

func twoTabs(v *visit) {
	w := newWorld(v.T, configuration.Lifetimes{})
	other := v.tab()
	v.do("open one", chromedp.Navigate(w.address("one")), chromedp.WaitVisible(chromedp.CSS("#identifier")))
	other.do("open two", chromedp.Navigate(w.address("two")), chromedp.WaitVisible(chromedp.CSS("#identifier")))
	v.signIn()
	v.allow()
	v.shows("the first tab", "#back", "one")
	other.signIn()
	other.shows("the second tab", "#back", "two")
}

func backAfterConsent(v *visit) {
	w := newWorld(v.T, configuration.Lifetimes{})
	v.do("open", chromedp.Navigate(w.address("one")), chromedp.WaitVisible(chromedp.CSS("#identifier")))
	interaction, err := chromedp.Run(v.ctx, chromedp.Location())
	if err != nil {
		v.Fatal(err)
	}
	v.signIn()
	v.allow()
	v.shows("the end", "#back", "one")
	v.do("go back", chromedp.Navigate(interaction))
	v.shows("after going back", "h1", "")
	v.picture("back")
	v.do("follow the link", chromedp.Click(chromedp.CSS("main .primary")))
	v.shows("the application", "#back", "")
	if where, err := chromedp.Run(v.ctx, chromedp.Location()); err != nil || where != strings.TrimSuffix(w.callback, "callback") {
		v.Errorf("the page leads to %s (%v)", where, err)
	}
}

// cancelSignIn returns to the application with access_denied (RFC 6749, section 4.1.2.1).
func cancelSignIn(v *visit) {
	w := newWorld(v.T, configuration.Lifetimes{})
	for _, scripts := range []bool{true, false} {
		v.do("cancel", chromium.Scripts(scripts), chromedp.Navigate(w.address("one")), chromedp.WaitVisible(chromedp.CSS("#identifier")), chromedp.Click(chromedp.CSS(".cancel button")))
		v.shows("the application", "#back", "one access_denied")
	}
}

// bookmark opens a sign-in page in a fresh browser, which accepts cookies but has none yet.
func bookmark(v *visit) {
	w := newWorld(v.T, configuration.Lifetimes{})
	v.do("open", chromedp.Navigate(w.address("one")), chromedp.WaitVisible(chromedp.CSS("#identifier")))
	page, err := chromedp.Run(v.ctx, chromedp.Location())
	if err != nil {
		v.Fatal(err)
	}
	v.do("open the page in a fresh browser", forgetCookies(), chromedp.Navigate(page))
	v.shows("the page", "h1", "browser where you started")
	v.do("follow the link", chromedp.Click(chromedp.CSS("main .primary")))
	v.shows("the application", "#back", "")
}

func expiredRequest(v *visit) {
	w := newWorld(v.T, configuration.Lifetimes{Interaction: record.Duration(time.Millisecond)})
	v.do("open", chromedp.Navigate(w.address("one")))
	v.shows("an expired request", "h1", "")
	v.picture("expired")
	if text := v.text("main"); !strings.Contains(text, "has expired") {
		v.Errorf("the page does not contain \"has expired\": %s", text)
	}
}

func errorPages(v *visit) {
	w := newWorld(v.T, configuration.Lifetimes{})
	for name, address := range map[string]string{
		"unknown-client": w.address("x", "client_id", "nobody"),
		"redirect-uri":   w.address("x", "redirect_uri", w.callback+"k"),
		"other-browser":  w.Issuer + "/sign-in?interaction=0123456789012345678901",
		"nothing-here":   w.Issuer + "/nothing-here",
	} {
		v.do(name, chromedp.Navigate(address))
		v.shows(name, "h1", "")
		where, err := chromedp.Run(v.ctx, chromedp.Location())
		if err != nil || !strings.HasPrefix(where, w.Issuer) {
			v.Errorf("%s leads to %s (%v)", name, where, err)
		}
		v.picture(name)
	}
}

func untickingAScope(v *visit) {
	w := newWorld(v.T, configuration.Lifetimes{})
	v.do("open", chromedp.Navigate(w.address("one")), chromedp.WaitVisible(chromedp.CSS("#identifier")))
	v.signIn()
	v.do("untick profile", chromedp.Click(chromedp.CSS("input[name=scope][value=profile]")))
	v.allow()
	v.shows("the end", "#back", "one")
	v.do("open the account", chromedp.Navigate(w.Issuer+"/account"))
	if text := v.text("main"); !strings.Contains(text, "See your photos") || strings.Contains(text, "See your profile") {
		v.Errorf("the account page contains: %s", text)
	}
}

func noFrame(v *visit) {
	w := newWorld(v.T, configuration.Lifetimes{})
	evil := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(rw, `<!DOCTYPE html><p id=frame>frame</p><iframe src="%s/sign-in" onload="document.getElementById('frame').textContent='loaded'"></iframe>`, w.Issuer)
	}))
	v.Cleanup(evil.Close)
	refused := make(chan string, 10)
	err := chromedp.Listen(v.ctx, func(event any) {
		if e, ok := event.(*log.EventEntryAdded); ok && strings.Contains(e.Entry.Text, "frame-ancestors") {
			refused <- e.Entry.Text
		}
	})
	if err != nil {
		v.Fatal(err)
	}
	v.do("open a page with a frame", chromedp.Navigate(evil.URL))
	select {
	case <-refused:
	case <-time.After(patience):
		v.Error("Chromium shows the sign-in page in a frame of another site")
	}
	v.picture("frame")
}

func keyboardOnly(v *visit) {
	w := newWorld(v.T, configuration.Lifetimes{})
	v.do("open", chromedp.Navigate(w.address("one")), chromedp.WaitVisible(chromedp.CSS("#identifier")))
	// The first field has the focus. Enter in the last one submits the form.
	v.do("sign in", chromedp.KeyEvent(demo.Username), chromedp.KeyEvent("\t"), chromedp.KeyEvent(demo.Password), chromedp.KeyEvent("\r"))
	v.do("wait for consent", chromedp.WaitVisible(chromedp.CSS("button[value=allow]")))
	for range 20 {
		allowed, err := chromedp.Run(v.ctx, chromedp.Evaluate[string](`document.activeElement.value || ''`))
		if err != nil {
			v.Fatal(err)
		}
		if allowed == "allow" {
			v.do("allow", chromedp.KeyEvent("\r"))
			v.shows("the end", "#back", "one")
			return
		}
		v.do("next", chromedp.KeyEvent("\t"))
	}
	v.Error("Tab does not reach the button Allow")
}

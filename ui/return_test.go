package ui

import (
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/record"
)

// Links of pages where the user cannot continue.

const printerStart = `href="https://printer.example.com/sign-in?from=account&amp;iss=`

func TestExpiredPagesLinkToTheApplication(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	b := w.newBrowser()
	page := b.get(w.authorizeURL(nil)).redirected(t)
	form := b.get(page).hidden()
	back := b.post("/sign-in", with(form, "identifier", "alice", "password", password)).redirected(t)
	consent := b.get(back).hidden()
	done := b.post("/consent", with(consent, "answer", "allow")).redirected(t)
	if !strings.HasPrefix(done, w.callback) {
		t.Fatalf("the sign-in ends at %s", done)
	}
	for name, resp := range map[string]response{
		"the sign-in page by the back button": b.get(page),
		"the consent page by the back button": b.get(back),
		"the sign-in form, sent again":        b.post("/sign-in", with(form, "identifier", "alice", "password", password)),
		"the consent form, sent again":        b.post("/consent", with(consent, "answer", "allow")),
		"continue":                            b.get(strings.Replace(page, "/sign-in", "/authorize/continue", 1)),
	} {
		if resp.StatusCode != 400 || !strings.Contains(resp.body, "This page has expired") || !strings.Contains(resp.body, printerStart) || !strings.Contains(resp.body, "Go to <bdi>Photo Printer</bdi>") {
			t.Errorf("%s: status %d, the page does not link to the application:\n%s", name, resp.StatusCode, resp.body)
		}
	}
}

// A URL can name a client, but only the stored client decides what a page links to.
func TestExpiredPagesAreNotOpenRedirects(t *testing.T) {
	w := newWorld(t)
	b := w.newBrowser()
	b.get(w.authorizeURL(nil)).redirected(t) // sets the browser's cookie
	outsider := func(id string, vouched bool) record.Client {
		return record.Client{ID: id, Registration: &record.Registration{CreatedAt: time.Now(), Vouched: vouched}, ClientMetadata: oauth.ClientMetadata{
			ClientName: "Outsider", ClientURI: "https://outsider.example.com", InitiateLoginURI: "https://outsider.example.com/start", RedirectURIs: []string{"https://outsider.example.com/cb"},
			TokenEndpointAuthMethod: "none", Scope: "openid",
		}}
	}
	for _, c := range []record.Client{outsider("unvouched", false), outsider("vouched", true)} {
		if err := w.store.RegisterClient(t.Context(), &c, 10); err != nil {
			t.Fatal(err)
		}
	}
	w.declare(declaration.Declaration{Clients: []record.Client{
		{ID: "declared", ClientMetadata: oauth.ClientMetadata{RedirectURIs: []string{"https://plain.example.com/cb"}, TokenEndpointAuthMethod: "none", Scope: "openid"}},
		{ID: "native", ClientMetadata: oauth.ClientMetadata{RedirectURIs: []string{"com.example.app:/cb"}, TokenEndpointAuthMethod: "none", ApplicationType: "native", Scope: "openid"}},
	}})
	for id, leads := range map[string]string{
		"vouched": "https://outsider.example.com/start?", "declared": "https://plain.example.com/", "unvouched": "", "native": "", "unknown": "",
		"https://evil.example.com/client.json": "",
	} {
		page := b.get("/sign-in?" + url.Values{"interaction": {"aaaaaaaaaaaaaaaaaaaaaa"}, "client_id": {id}, "client_uri": {"https://evil.example.com"}}.Encode())
		page.want(t, 400, "This page has expired")
		if leads == "" && strings.Contains(page.body, "Go to <bdi>") || leads != "" && !strings.Contains(page.body, `href="`+leads) || strings.Contains(page.body, "evil") {
			t.Errorf("%s: the page should link to %q:\n%s", id, leads, page.body)
		}
	}
	// No URL of a page names an unvouched client.
	if page := b.get(w.authorizeURL(url.Values{"client_id": {"unvouched"}, "redirect_uri": {"https://outsider.example.com/cb"}, "scope": {"openid"}})).redirected(t); strings.Contains(page, "client_id") {
		t.Errorf("the sign-in page's URL is %s", page)
	}
}

func TestFavicon(t *testing.T) {
	w := newWorld(t)
	resp := w.newBrowser().get("/favicon.ico")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "image/svg+xml" || !strings.HasPrefix(resp.body, "<svg") || strings.Contains(resp.Header.Get("Cache-Control"), "immutable") {
		t.Errorf("status %d, %v", resp.StatusCode, resp.Header)
	}
}

func TestBlockedCookies(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	b := w.newBrowser()
	b.client.Jar = nil
	page := b.get(w.authorizeURL(nil)).redirected(t)
	for name, address := range map[string]string{
		"the sign-in page": b.get(page).redirected(t),
		"its form":         b.post("/sign-in", url.Values{"interaction": {interactionOf(page)}, "client_id": {"printer"}, "identifier": {"alice"}, "password": {password}}).redirected(t),
	} {
		resp := b.get(address)
		if resp.StatusCode != 400 || !strings.Contains(resp.body, "Cookies are blocked") || !strings.Contains(resp.body, printerStart) {
			t.Errorf("%s: status %d:\n%s", name, resp.StatusCode, resp.body)
		}
	}
	b.get(b.get(b.signIn("alice", password).redirected(t)).redirected(t)).want(t, 400, "Cookies are blocked")
}

// A fresh browser has no cookies either, but it does not block them.
func TestBookmarkInAFreshBrowserIsNotACookieError(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	page := w.newBrowser().get(w.authorizeURL(nil)).redirected(t)
	long := strconv.FormatInt(time.Now().Add(-time.Hour).Unix(), 10)
	for name, address := range map[string]string{
		"the sign-in page":      page,
		"one that was checked":  page + "&" + cookieCheck + "=" + long,
		"one that is long gone": "/sign-in?interaction=aaaaaaaaaaaaaaaaaaaaaa&client_id=printer",
	} {
		b := w.newBrowser()
		resp := b.get(b.get(address).redirected(t))
		if resp.StatusCode != 400 || strings.Contains(resp.body, "Cookies are") || !strings.Contains(resp.body, printerStart) {
			t.Errorf("%s: status %d:\n%s", name, resp.StatusCode, resp.body)
		}
	}
	b := w.newBrowser()
	b.get(b.get(b.get("/account?signed_in=1").redirected(t)).redirected(t)).want(t, 200, "Sign in")
}

func TestCancelReturnsToTheApplication(t *testing.T) {
	for name, change := range map[string]url.Values{"sign in": nil, "sign up": {"prompt": {"create"}}} {
		w := newWorld(t)
		b := w.newBrowser()
		page := b.get(b.get(w.authorizeURL(change)).redirected(t))
		page.want(t, 200, `action="/cancel"`)
		answer, err := url.Parse(b.post("/cancel", page.hidden()).redirected(t))
		if err != nil || !strings.HasPrefix(answer.String(), w.callback+"?") || answer.Query().Get("error") != "access_denied" || answer.Query().Get("state") != "xyz" {
			t.Errorf("%s: Cancel leads to %s (%v)", name, answer, err)
		}
		b.post("/cancel", page.hidden()).want(t, 400, "This page has expired", printerStart)
	}
}

// RFC 9700, section 4.11.2: Cancel does not redirect to an unvouched client.
func TestCancelDoesNotRedirectToUnvouchedClients(t *testing.T) {
	w := newWorld(t)
	b := w.newBrowser()
	c := record.Client{ID: "outsider", Registration: &record.Registration{CreatedAt: time.Now()}, ClientMetadata: oauth.ClientMetadata{
		ClientName: "Outsider", ClientURI: "https://outsider.example.com", RedirectURIs: []string{"https://outsider.example.com/cb"}, TokenEndpointAuthMethod: "none", Scope: "openid",
		GrantTypes: []string{"authorization_code"}, ResponseTypes: []string{"code"},
	}}
	if err := w.store.RegisterClient(t.Context(), &c, 10); err != nil {
		t.Fatal(err)
	}
	page := b.get(b.get(w.authorizeURL(url.Values{"client_id": {"outsider"}, "redirect_uri": {"https://outsider.example.com/cb"}, "scope": {"openid"}})).redirected(t))
	resp := b.post("/cancel", page.hidden())
	if resp.StatusCode >= 500 || resp.Header.Get("Location") != "" || !strings.Contains(resp.body, "Sign-in canceled") || strings.Contains(resp.body, "outsider.example.com") {
		t.Errorf("status %d, Location %q:\n%s", resp.StatusCode, resp.Header.Get("Location"), resp.body)
	}
	b.post("/cancel", page.hidden()).want(t, 400, "This page has expired")
}

// Optional scopes stay ticked or unticked as the user left them last time.
func TestOptionalScopesHaveTheConfiguredDefault(t *testing.T) {
	ticked := `name="scope" value="email" checked>`
	unticked := `name="scope" value="email">`
	for _, asTold := range []struct {
		unticked       bool
		granted, scope oauth.Scope
		want           string
	}{
		{false, nil, nil, ticked},
		{true, nil, nil, unticked},
		{true, oauth.Scope{"openid", "email"}, nil, ticked},
		{false, oauth.Scope{"openid"}, oauth.Scope{"email"}, unticked},
	} {
		w := newWorld(t)
		w.ui.config.OptionalUnticked = asTold.unticked
		w.addAlice()
		if asTold.granted != nil {
			_, err := w.store.UpdateGrant(t.Context(), "a", "printer", func(g *record.Grant) error {
				g.Scope, g.Declined, g.CreatedAt = asTold.granted, asTold.scope, time.Now()
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		b := w.newBrowser()
		b.signIn("alice", password).redirected(t)
		b.get(b.get(w.authorizeURL(url.Values{"scope": {"openid email"}, "prompt": {"consent"}})).redirected(t)).want(t, 200, asTold.want)
	}
}

package client_test

import (
	"errors"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/valetkey/valetkey/client"
	"github.com/valetkey/valetkey/oauth"
)

// webApp is a web application at https://app.example with a provider, and what went wrong
// in it last.
type webApp struct {
	*provider
	party   *client.RelyingParty
	handler http.Handler
	failure error
}

const appRedirectURI = "https://app.example/auth/callback"

func newWebApp(t *testing.T, change func(*client.Config, *client.RelyingPartyConfig)) *webApp {
	t.Helper()
	a := &webApp{provider: newProvider(t)}
	a.claims = func(claims map[string]any) { claims["sid"] = "sid-one" }
	config := a.config()
	config.RedirectURI = appRedirectURI
	partyConfig := client.RelyingPartyConfig{Logger: slog.New(slog.DiscardHandler), Error: func(w http.ResponseWriter, _ *http.Request, status int, err error) {
		a.failure = err
		w.WriteHeader(status)
	}}
	if change != nil {
		change(&config, &partyConfig)
	}
	var err error
	if partyConfig.Client, err = client.Discover(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if a.party, err = client.NewRelyingParty(partyConfig); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/auth/", a.party)
	mux.Handle("/private", a.party.Require(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", client.SessionFrom(r.Context()).Subject, r.URL.RawQuery)
	})))
	mux.Handle("/", a.party.Load(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "somebody: %v", client.SessionFrom(r.Context()) != nil)
	})))
	a.handler = mux
	return a
}

// RoundTrip lets browsers reach the application.
func (a *webApp) RoundTrip(r *http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	request := httptest.NewRequest(r.Method, r.URL.String(), r.Body)
	request.Header = r.Header
	a.handler.ServeHTTP(recorder, request)
	resp := recorder.Result()
	resp.Request = r
	return resp, nil
}

func (a *webApp) browser(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Transport: a, Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func appGet(t *testing.T, browser *http.Client, path string) (*http.Response, string) {
	t.Helper()
	resp, err := browser.Get("https://app.example" + path)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func appPost(t *testing.T, browser *http.Client, path string, form url.Values) *http.Response {
	t.Helper()
	resp, err := browser.PostForm("https://app.example"+path, form)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// begin starts a sign-in and returns where the browser is sent.
func (a *webApp) begin(t *testing.T, browser *http.Client, path string) string {
	t.Helper()
	resp, _ := appGet(t, browser, path)
	if resp.StatusCode != http.StatusSeeOther || !strings.HasPrefix(resp.Header.Get("Location"), a.issuer+"/authorize") {
		t.Fatalf("%s answered %d, to %s", path, resp.StatusCode, resp.Header.Get("Location"))
	}
	return resp.Header.Get("Location")
}

// signInTo signs the browser's person in and returns the answer of the callback.
func (a *webApp) signInTo(t *testing.T, browser *http.Client, returnTo string) *http.Response {
	t.Helper()
	address := a.begin(t, browser, "/auth/sign-in?return_to="+url.QueryEscape(returnTo))
	resp, _ := appGet(t, browser, "/auth/callback?"+a.authorize(t, address).Encode())
	return resp
}

func (a *webApp) signedIn(t *testing.T, browser *http.Client) bool {
	t.Helper()
	_, body := appGet(t, browser, "/")
	return body == "somebody: true"
}

func TestSE04_RelyingPartySignsInAndOut(t *testing.T) {
	a := newWebApp(t, nil)
	browser := a.browser(t)
	resp, _ := appGet(t, browser, "/private?page=2")
	if got := resp.Header.Get("Location"); got != "/auth/sign-in?return_to=%2Fprivate%3Fpage%3D2" {
		t.Fatalf("a stranger is sent to %s", got)
	}
	address := a.begin(t, browser, resp.Header.Get("Location"))
	resp, _ = appGet(t, browser, "/auth/callback?"+a.authorize(t, address).Encode())
	if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/private?page=2" {
		t.Fatalf("after the sign-in: %d, to %s (%v)", resp.StatusCode, resp.Header.Get("Location"), a.failure)
	}
	if _, body := appGet(t, browser, "/private?page=2"); body != "alice page=2" {
		t.Errorf("the page is %q", body)
	}

	app := &url.URL{Scheme: "https", Host: "app.example", Path: "/"}
	copied := browser.Jar.Cookies(app)
	resp = appPost(t, browser, "/auth/sign-out", url.Values{"return_to": {"/bye"}})
	out, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || out.Path != "/logout" {
		t.Fatalf("sign-out leads to %v (%v)", out, a.failure)
	}
	query := out.Query()
	if query.Get("id_token_hint") == "" || query.Get("post_logout_redirect_uri") != "https://app.example/auth/signed-out" {
		t.Errorf("sign-out asks %v", query)
	}
	if len(browser.Jar.Cookies(app)) != 0 {
		t.Error("the browser keeps a cookie")
	}
	for _, cookie := range copied {
		cookie.Path, cookie.Secure = "/", true
	}
	browser.Jar.SetCookies(app, copied)
	if a.signedIn(t, browser) {
		t.Error("the session lives on for who kept its cookie")
	}
	if revoked := a.last(t, "/revoke").form.Get("token_type_hint"); revoked != "refresh_token" {
		t.Errorf("revoked was %q", revoked)
	}
	for state, want := range map[string]string{query.Get("state"): "/bye", "forged": "/", "": "/"} {
		resp, _ = appGet(t, browser, "/auth/signed-out?state="+state)
		if got := resp.Header.Get("Location"); got != want {
			t.Errorf("with the state %q back to %s, want %s", state, got, want)
		}
	}
}

func TestRequireIsForVisitsOnly(t *testing.T) {
	a := newWebApp(t, nil)
	for _, test := range []struct {
		method, mode string
		want         int
	}{
		{"GET", "", http.StatusSeeOther}, {"GET", "navigate", http.StatusSeeOther},
		{"GET", "cors", http.StatusUnauthorized}, {"POST", "navigate", http.StatusUnauthorized}, {"DELETE", "", http.StatusUnauthorized},
	} {
		request := httptest.NewRequest(test.method, "https://app.example/private", nil)
		request.Header.Set("Sec-Fetch-Mode", test.mode)
		recorder := httptest.NewRecorder()
		a.handler.ServeHTTP(recorder, request)
		if recorder.Code != test.want {
			t.Errorf("%s, %q: %d, want %d", test.method, test.mode, recorder.Code, test.want)
		}
	}
}

func TestSE01_RS15_RelyingPartyCookies(t *testing.T) {
	for _, mode := range []string{"", "form_post"} {
		a := newWebApp(t, func(_ *client.Config, p *client.RelyingPartyConfig) { p.Authorization.ResponseMode = mode })
		browser := a.browser(t)
		resp, _ := appGet(t, browser, "/auth/sign-in")
		begun := resp.Cookies()[0]
		// A form that the provider's page posts brings Lax cookies to nobody.
		want := http.SameSiteLaxMode
		if mode == "form_post" {
			want = http.SameSiteNoneMode
		}
		if !strings.HasPrefix(begun.Name, "__Host-sign-in-") || !begun.Secure || !begun.HttpOnly || begun.Path != "/" || begun.SameSite != want || begun.MaxAge != 1800 {
			t.Errorf("%q: cookie of a sign-in: %v", mode, begun)
		}
		if resp.Header.Get("Cache-Control") != "no-store" {
			t.Error("a sign-in can be cached")
		}
		resp, _ = appGet(t, browser, "/auth/callback?"+a.authorize(t, resp.Header.Get("Location")).Encode())
		var session *http.Cookie
		for _, cookie := range resp.Cookies() {
			if cookie.Name == "__Host-session" {
				session = cookie
			} else if cookie.Name != begun.Name || cookie.MaxAge >= 0 {
				t.Errorf("%q: the callback sets %v", mode, cookie)
			}
		}
		if session == nil || !session.Secure || !session.HttpOnly || session.Path != "/" || session.SameSite != http.SameSiteLaxMode || len(session.Value) < 26 {
			t.Errorf("%q: cookie of the session: %v", mode, session)
		}
	}
}

func TestFormPostAndFragment(t *testing.T) {
	for _, test := range []struct{ responseType, responseMode string }{
		{"code", "form_post"}, {"id_token", "form_post"}, {"code id_token token", "form_post"},
		{"id_token", ""}, {"id_token token", ""}, {"code id_token", "fragment"}, {"code token", ""}, {"code id_token token", ""},
	} {
		t.Run(test.responseType+" "+test.responseMode, func(t *testing.T) {
			a := newWebApp(t, func(c *client.Config, p *client.RelyingPartyConfig) {
				c.ResponseType, p.Authorization.ResponseMode = test.responseType, test.responseMode
			})
			browser := a.browser(t)
			answer := a.frontChannel(t, a.begin(t, browser, "/auth/sign-in"), nil)
			if test.responseMode != "form_post" {
				resp, page := appGet(t, browser, "/auth/callback")
				policy := resp.Header.Get("Content-Security-Policy")
				if resp.StatusCode != http.StatusOK || !strings.Contains(policy, "script-src 'sha256-") || strings.Contains(policy, "unsafe") {
					t.Fatalf("the page that reads the fragment: %d, %s", resp.StatusCode, policy)
				}
				field := regexp.MustCompile(`<input type="hidden" name="([^"]*)">`).FindStringSubmatch(html.UnescapeString(page))
				if field == nil {
					t.Fatalf("the page has no form: %s", page)
				}
				answer = url.Values{field[1]: {answer.Encode()}}
			}
			if resp := appPost(t, browser, "/auth/callback", answer); resp.StatusCode != http.StatusSeeOther || !a.signedIn(t, browser) {
				t.Errorf("answered %d: %v", resp.StatusCode, a.failure)
			}
		})
	}
}

func TestTokensInAQueryAreRefused(t *testing.T) {
	a := newWebApp(t, func(c *client.Config, _ *client.RelyingPartyConfig) { c.ResponseType = "id_token token" })
	browser := a.browser(t)
	answer := a.frontChannel(t, a.begin(t, browser, "/auth/sign-in"), nil)
	if resp, _ := appGet(t, browser, "/auth/callback?"+answer.Encode()); resp.StatusCode != http.StatusBadRequest || a.signedIn(t, browser) {
		t.Errorf("answered %d", resp.StatusCode)
	}
}

func TestCallbackOfAnotherBrowser(t *testing.T) {
	a := newWebApp(t, nil)
	mallory, alice := a.browser(t), a.browser(t)
	callback := "/auth/callback?" + a.authorize(t, a.begin(t, mallory, "/auth/sign-in")).Encode()
	// Alice is led to Mallory's callback, with and without a sign-in of her own.
	for range 2 {
		resp, _ := appGet(t, alice, callback)
		if resp.StatusCode != http.StatusBadRequest || !errors.Is(a.failure, client.ErrState) || a.signedIn(t, alice) {
			t.Fatalf("answered %d: %v", resp.StatusCode, a.failure)
		}
		a.begin(t, alice, "/auth/sign-in")
	}
	if a.count("/token") != 0 {
		t.Error("the code was redeemed")
	}
	// The answer is good once, where it belongs.
	for _, want := range []int{http.StatusSeeOther, http.StatusBadRequest} {
		if resp, _ := appGet(t, mallory, callback); resp.StatusCode != want {
			t.Errorf("answered %d, want %d", resp.StatusCode, want)
		}
	}
}

func TestSE15_TabsSignInEachForItself(t *testing.T) {
	a := newWebApp(t, nil)
	browser := a.browser(t)
	var tabs []string
	for i := range 3 {
		tabs = append(tabs, a.begin(t, browser, fmt.Sprintf("/auth/sign-in?return_to=/tab-%d", i)))
	}
	for _, i := range []int{2, 0, 1} {
		resp, _ := appGet(t, browser, "/auth/callback?"+a.authorize(t, tabs[i]).Encode())
		if got := resp.Header.Get("Location"); got != fmt.Sprintf("/tab-%d", i) {
			t.Errorf("tab %d comes back to %q (%v)", i, got, a.failure)
		}
	}
}

func TestManyTabsDoNotOutgrowARequest(t *testing.T) {
	a := newWebApp(t, nil)
	browser := a.browser(t)
	last := ""
	for range 50 {
		last = a.begin(t, browser, "/auth/sign-in?return_to=/"+strings.Repeat("x", 1000))
	}
	cookies := browser.Jar.Cookies(&url.URL{Scheme: "https", Host: "app.example", Path: "/"})
	if len(cookies) > 8 {
		t.Errorf("%d sign-ins are kept", len(cookies))
	}
	for _, cookie := range cookies {
		if len(cookie.Value) > 3900 {
			t.Errorf("a cookie has %d bytes", len(cookie.Value))
		}
	}
	if resp, _ := appGet(t, browser, "/auth/callback?"+a.authorize(t, last).Encode()); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("the newest is gone: %d", resp.StatusCode)
	}
}

func TestST03_MixUpInAWebApplication(t *testing.T) {
	for name, change := range map[string]func(url.Values){
		"other iss": func(v url.Values) { v.Set("iss", "https://evil.example") },
		"no iss":    func(v url.Values) { v.Del("iss") },
	} {
		a := newWebApp(t, nil)
		browser := a.browser(t)
		answer := a.authorize(t, a.begin(t, browser, "/auth/sign-in"))
		change(answer)
		resp, _ := appGet(t, browser, "/auth/callback?"+answer.Encode())
		if resp.StatusCode != http.StatusBadRequest || !errors.Is(a.failure, client.ErrMixUp) || a.count("/token") != 0 {
			t.Errorf("%s: answered %d, %v, %d requests for tokens", name, resp.StatusCode, a.failure, a.count("/token"))
		}
	}
}

func TestLG40_OR02_ReturnToIsLocal(t *testing.T) {
	a := newWebApp(t, func(_ *client.Config, p *client.RelyingPartyConfig) { p.Home = "/home" })
	for given, want := range map[string]string{
		"/notes?x=1#y": "/notes?x=1#y", "/": "/", "/?next=https://b.example//": "/?next=https://b.example//", "/%20": "/%20",
		"/a//b": "/home", "/%0d%0aSet-Cookie:x=1": "/home", "/%09/evil.example": "/home", "/..//evil.example": "/home", "/a/../../b": "/home", "https:evil.example": "/home", "//user@evil.example": "/home",
		"": "/home", "notes": "/home", "//evil.example": "/home", "///evil.example": "/home", `/\evil.example`: "/home", `\/evil.example`: "/home",
		"https://evil.example/": "/home", "javascript:alert(1)": "/home", "/\t/evil.example": "/home", "/\n/evil.example": "/home",
		"\t//evil.example": "/home", " /notes": "/home", "/ü": "/home", "/" + strings.Repeat("x", 2000): "/home", "?x": "/home", "/%zz": "/home",
	} {
		browser := a.browser(t)
		if got := a.signInTo(t, browser, given).Header.Get("Location"); got != want {
			t.Errorf("%q leads to %q, want %q (%v)", given, got, want, a.failure)
		}
		out := appPost(t, browser, "/auth/sign-out", url.Values{"return_to": {given}})
		leave, err := url.Parse(out.Header.Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		resp, _ := appGet(t, browser, "/auth/signed-out?state="+url.QueryEscape(leave.Query().Get("state")))
		if got := resp.Header.Get("Location"); got != want {
			t.Errorf("signing out, %q leads to %q, want %q", given, got, want)
		}
	}
}

func TestSessionsAreNotFixed(t *testing.T) {
	a := newWebApp(t, nil)
	browser := a.browser(t)
	app := &url.URL{Scheme: "https", Host: "app.example", Path: "/"}
	planted := &http.Cookie{Name: "__Host-session", Value: strings.Repeat("A", 26), Path: "/", Secure: true}
	browser.Jar.SetCookies(app, []*http.Cookie{planted})
	a.signInTo(t, browser, "/")
	session := func() string {
		for _, cookie := range browser.Jar.Cookies(app) {
			if cookie.Name == "__Host-session" {
				return cookie.Value
			}
		}
		return ""
	}
	first := session()
	if first == planted.Value {
		t.Error("the session has the cookie that was planted")
	}
	// Signing in once more ends the session before.
	a.signInTo(t, browser, "/")
	if session() == first {
		t.Error("the second sign-in goes on with the cookie of the first")
	}
	thief := a.browser(t)
	thief.Jar.SetCookies(app, []*http.Cookie{{Name: "__Host-session", Value: first, Path: "/", Secure: true}})
	if a.signedIn(t, thief) || !a.signedIn(t, browser) {
		t.Error("the session before lives on, or the new one does not")
	}
}

// Two parties with one host between them.
func TestCookiePrefixKeepsTwoPartiesApart(t *testing.T) {
	one := newWebApp(t, func(_ *client.Config, p *client.RelyingPartyConfig) { p.CookiePrefix = "one-" })
	two := newWebApp(t, func(_ *client.Config, p *client.RelyingPartyConfig) { p.CookiePrefix = "two-" })
	browser := one.browser(t)
	one.signInTo(t, browser, "/")
	browser.Transport = two
	if two.signedIn(t, browser) {
		t.Error("signed in at the other, too")
	}
	two.signInTo(t, browser, "/")
	if browser.Transport = one; !one.signedIn(t, browser) {
		t.Error("the second sign-in ended the first")
	}
}

// The form that the provider's page posts comes without the Lax cookie of the session.
func TestSessionBeforeEndsWithFormPost(t *testing.T) {
	a := newWebApp(t, func(_ *client.Config, p *client.RelyingPartyConfig) { p.Authorization.ResponseMode = "form_post" })
	browser := a.browser(t)
	app := &url.URL{Scheme: "https", Host: "app.example", Path: "/"}
	appPost(t, browser, "/auth/callback", a.authorize(t, a.begin(t, browser, "/auth/sign-in")))
	before := browser.Jar.Cookies(app)
	answer := a.authorize(t, a.begin(t, browser, "/auth/sign-in"))
	request, err := http.NewRequest(http.MethodPost, "https://app.example/auth/callback", strings.NewReader(answer.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, cookie := range browser.Jar.Cookies(app) {
		if cookie.Name != "__Host-session" {
			request.AddCookie(cookie)
		}
	}
	resp, err := (&http.Client{Transport: a, CheckRedirect: browser.CheckRedirect}).Do(request)
	if err != nil || resp.StatusCode != http.StatusSeeOther {
		t.Fatalf("answered %v, %v (%v)", resp, err, a.failure)
	}
	for _, cookie := range before {
		cookie.Path, cookie.Secure = "/", true
	}
	old := a.browser(t)
	old.Jar.SetCookies(app, before)
	if a.signedIn(t, old) {
		t.Error("the session before lives on")
	}
}

func TestSignOutIsNoOtherSitesWish(t *testing.T) {
	a := newWebApp(t, nil)
	browser := a.browser(t)
	a.signInTo(t, browser, "/")
	for field, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"} {
		request, err := http.NewRequest(http.MethodPost, "https://app.example/auth/sign-out", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set(field, value)
		resp, err := browser.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusForbidden || !a.signedIn(t, browser) {
			t.Errorf("%s: answered %d", field, resp.StatusCode)
		}
	}
	if resp, _ := appGet(t, browser, "/auth/sign-out"); resp.StatusCode != http.StatusMethodNotAllowed || !a.signedIn(t, browser) {
		t.Errorf("GET is answered %d", resp.StatusCode)
	}
}

func TestThirdPartyInitiatedLogin(t *testing.T) {
	a := newWebApp(t, func(_ *client.Config, p *client.RelyingPartyConfig) { p.Authorization.UILocales = []string{"de"} })
	for name, test := range map[string]struct {
		query    url.Values
		returnTo string // empty if refused
	}{
		"issuer alone":       {url.Values{"iss": {a.issuer}}, "/"},
		"with a target":      {url.Values{"iss": {a.issuer}, "target_link_uri": {"https://app.example/notes?x=1"}}, "/notes?x=1"},
		"no issuer":          {url.Values{"login_hint": {"alice"}}, ""},
		"two issuers":        {url.Values{"iss": {a.issuer, "https://evil.example"}}, ""},
		"other issuer":       {url.Values{"iss": {"https://evil.example"}}, ""},
		"target elsewhere":   {url.Values{"iss": {a.issuer}, "target_link_uri": {"https://evil.example/"}}, ""},
		"target lookalike":   {url.Values{"iss": {a.issuer}, "target_link_uri": {"https://app.example.evil.example/"}}, ""},
		"target with a user": {url.Values{"iss": {a.issuer}, "target_link_uri": {"https://app.example@evil.example/"}}, ""},
		"target unencrypted": {url.Values{"iss": {a.issuer}, "target_link_uri": {"http://app.example/"}}, ""},
		"target twice local": {url.Values{"iss": {a.issuer}, "target_link_uri": {"https://app.example//evil.example"}}, ""},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			t.Run(name+" by "+method, func(t *testing.T) {
				browser := a.browser(t)
				var resp *http.Response
				if test.query.Set("login_hint", "alice@example.com"); method == http.MethodPost {
					resp = appPost(t, browser, "/auth/initiate-login", test.query)
				} else {
					resp, _ = appGet(t, browser, "/auth/initiate-login?"+test.query.Encode())
				}
				if test.returnTo == "" {
					if resp.StatusCode != http.StatusBadRequest {
						t.Errorf("answered %d, to %s", resp.StatusCode, resp.Header.Get("Location"))
					}
					return
				}
				u, err := url.Parse(resp.Header.Get("Location"))
				if err != nil || u.Query().Get("login_hint") != "alice@example.com" || u.Query().Get("ui_locales") != "de" {
					t.Fatalf("answered %d, to %s", resp.StatusCode, u)
				}
				resp, _ = appGet(t, browser, "/auth/callback?"+a.authorize(t, u.String()).Encode())
				if got := resp.Header.Get("Location"); got != test.returnTo {
					t.Errorf("comes back to %q, want %q", got, test.returnTo)
				}
			})
		}
	}
}

func TestThirdPartyLoginHintIsBounded(t *testing.T) {
	a := newWebApp(t, nil)
	query := url.Values{"iss": {a.issuer}, "login_hint": {strings.Repeat("x", 1025)}}
	if resp, _ := appGet(t, a.browser(t), "/auth/initiate-login?"+query.Encode()); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("answered %d", resp.StatusCode)
	}
}

func TestRefusedSignInIsShown(t *testing.T) {
	a := newWebApp(t, nil)
	browser := a.browser(t)
	answer := a.authorize(t, a.begin(t, browser, "/auth/sign-in"))
	answer.Del("code")
	answer.Set("error", "access_denied")
	resp, _ := appGet(t, browser, "/auth/callback?"+answer.Encode())
	if resp.StatusCode != http.StatusForbidden || !errors.Is(a.failure, &client.Error{Code: oauth.AccessDenied}) || a.signedIn(t, browser) {
		t.Errorf("answered %d: %v", resp.StatusCode, a.failure)
	}
}

func TestSealedCookiesCannotBeChanged(t *testing.T) {
	a := newWebApp(t, nil)
	app := &url.URL{Scheme: "https", Host: "app.example", Path: "/"}
	for name, change := range map[string]func(string) string{
		"cut":     func(s string) string { return s[:len(s)-4] },
		"changed": func(s string) string { return "AAAA" + s[4:] },
		"empty":   func(string) string { return "" },
		"junk":    func(string) string { return "not base64" },
		"long":    func(s string) string { return strings.Repeat(s, 20) },
		"another's": func(string) string {
			other := newWebApp(t, nil)
			resp, _ := appGet(t, other.browser(t), "/auth/sign-in")
			return resp.Cookies()[0].Value
		},
		"another sign-in's": func(string) string {
			resp, _ := appGet(t, a.browser(t), "/auth/sign-in")
			return resp.Cookies()[0].Value
		},
	} {
		browser := a.browser(t)
		address := a.begin(t, browser, "/auth/sign-in")
		begun := browser.Jar.Cookies(app)[0]
		browser.Jar.SetCookies(app, []*http.Cookie{{Name: begun.Name, Value: change(begun.Value), Path: "/", Secure: true}})
		resp, _ := appGet(t, browser, "/auth/callback?"+a.authorize(t, address).Encode())
		if resp.StatusCode != http.StatusBadRequest || !errors.Is(a.failure, client.ErrState) || a.signedIn(t, browser) {
			t.Errorf("%s: answered %d: %v", name, resp.StatusCode, a.failure)
		}
	}
}

func TestSessionsEndByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newWebApp(t, func(_ *client.Config, p *client.RelyingPartyConfig) { p.SessionLifetime = time.Hour })
		browser := a.browser(t)
		a.signInTo(t, browser, "/")
		time.Sleep(59 * time.Minute)
		if !a.signedIn(t, browser) {
			t.Error("the session ended early")
		}
		time.Sleep(2 * time.Minute)
		if a.signedIn(t, browser) {
			t.Error("the session lives on")
		}
	})
}

func TestRS10_RequestsOfASessionShareOneRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newWebApp(t, nil)
		var mu sync.Mutex
		used := map[string]int{}
		a.handler.(*http.ServeMux).Handle("/api", a.party.Require(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			tokens, err := client.SessionFrom(r.Context()).Source().Tokens(r.Context())
			if err != nil {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			used[tokens.AccessToken]++
		})))
		browser := a.browser(t)
		a.signInTo(t, browser, "/")
		time.Sleep(2 * time.Hour) // the access token has ended
		var group sync.WaitGroup
		for range 50 {
			group.Go(func() {
				if resp, err := browser.Get("https://app.example/api"); err != nil || resp.StatusCode != http.StatusOK {
					t.Errorf("%v (%v)", resp, err)
				}
			})
		}
		group.Wait()
		if a.count("/token") != 2 || len(used) != 1 {
			t.Errorf("%d requests for tokens, %d access tokens in use", a.count("/token"), len(used))
		}
	})
}

func TestSessionThatEndedDoesNotComeBackByARefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newWebApp(t, nil)
		var session *client.Session
		a.handler.(*http.ServeMux).Handle("/api", a.party.Require(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			session = client.SessionFrom(r.Context())
		})))
		browser := a.browser(t)
		a.signInTo(t, browser, "/")
		appGet(t, browser, "/api")
		time.Sleep(2 * time.Hour)
		// The provider signs the person out while the refresh is under way.
		a.handlers["/token"] = func(w http.ResponseWriter, r *http.Request) {
			recorder := httptest.NewRecorder()
			a.handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "https://app.example/auth/frontchannel-logout?iss="+url.QueryEscape(a.issuer)+"&sid=sid-one", nil))
			a.token(w, r)
		}
		if _, err := session.Source().Tokens(t.Context()); !errors.Is(err, client.ErrSignInAgain) {
			t.Errorf("error is %v", err)
		}
		if a.signedIn(t, browser) {
			t.Error("the session came back")
		}
	})
}

func TestRelyingPartyRegistration(t *testing.T) {
	a := newWebApp(t, func(c *client.Config, _ *client.RelyingPartyConfig) { c.ResponseType = "code id_token" })
	want := oauth.ClientMetadata{
		RedirectURIs: []string{appRedirectURI}, ResponseTypes: []string{"code id_token"},
		PostLogoutRedirectURIs: []string{"https://app.example/auth/signed-out"}, InitiateLoginURI: "https://app.example/auth/initiate-login",
		BackchannelLogoutURI: "https://app.example/auth/backchannel-logout", FrontchannelLogoutURI: "https://app.example/auth/frontchannel-logout",
		FrontchannelLogoutSessionRequired: true,
	}
	if diff := cmp.Diff(want, a.party.Registration()); diff != "" {
		t.Errorf("registration (-want +got):\n%s", diff)
	}
}

func TestRelyingPartyConfigIsChecked(t *testing.T) {
	p := newProvider(t)
	for name, test := range map[string]struct {
		redirectURI string
		config      client.RelyingPartyConfig
	}{
		"no path":              {redirectURI: "https://app.example"},
		"root":                 {redirectURI: "https://app.example/"},
		"unclean path":         {redirectURI: "https://app.example/a/../callback"},
		"unencrypted":          {redirectURI: "http://app.example/callback"},
		"short key":            {redirectURI: appRedirectURI, config: client.RelyingPartyConfig{CookieKey: make([]byte, 16)}},
		"odd cookie name":      {redirectURI: appRedirectURI, config: client.RelyingPartyConfig{CookiePrefix: "a; Domain=evil"}},
		"home is another site": {redirectURI: appRedirectURI, config: client.RelyingPartyConfig{Home: "//evil.example"}},
	} {
		test.config.Client = p.discover(t, func(c *client.Config) { c.RedirectURI = test.redirectURI })
		if _, err := client.NewRelyingParty(test.config); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := client.NewRelyingParty(client.RelyingPartyConfig{}); err == nil {
		t.Error("taken without a client")
	}
}

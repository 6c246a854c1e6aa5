package client_test

import (
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

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
			response := a.frontChannel(t, a.begin(t, browser, "/auth/sign-in"), nil)
			if test.responseMode != "form_post" {
				resp, page := appGet(t, browser, "/auth/callback")
				policy := resp.Header.Get("Content-Security-Policy")
				if resp.StatusCode != http.StatusOK || !strings.Contains(policy, "script-src 'sha256-") || strings.Contains(policy, "unsafe") {
					t.Fatalf("the fragment page: %d, %s", resp.StatusCode, policy)
				}
				field := regexp.MustCompile(`<input type="hidden" name="([^"]*)">`).FindStringSubmatch(html.UnescapeString(page))
				if field == nil {
					t.Fatalf("the page has no form: %s", page)
				}
				response = url.Values{field[1]: {response.Encode()}}
			}
			if resp := appPost(t, browser, "/auth/callback", response); resp.StatusCode != http.StatusSeeOther || !a.signedIn(t, browser) {
				t.Errorf("status %d: %v", resp.StatusCode, a.failure)
			}
		})
	}
}

func TestTokensInAQueryAreRejected(t *testing.T) {
	a := newWebApp(t, func(c *client.Config, _ *client.RelyingPartyConfig) { c.ResponseType = "id_token token" })
	browser := a.browser(t)
	response := a.frontChannel(t, a.begin(t, browser, "/auth/sign-in"), nil)
	if resp, _ := appGet(t, browser, "/auth/callback?"+response.Encode()); resp.StatusCode != http.StatusBadRequest || a.signedIn(t, browser) {
		t.Errorf("status %d", resp.StatusCode)
	}
}

func TestCallbackOfAnotherBrowser(t *testing.T) {
	a := newWebApp(t, nil)
	mallory, alice := a.browser(t), a.browser(t)
	callback := "/auth/callback?" + a.authorize(t, a.begin(t, mallory, "/auth/sign-in")).Encode()
	// Alice opens Mallory's callback, with and without a sign-in in progress.
	for range 2 {
		resp, _ := appGet(t, alice, callback)
		if resp.StatusCode != http.StatusBadRequest || !errors.Is(a.failure, client.ErrState) || a.signedIn(t, alice) {
			t.Fatalf("status %d: %v", resp.StatusCode, a.failure)
		}
		a.begin(t, alice, "/auth/sign-in")
	}
	if a.count("/token") != 0 {
		t.Error("the code was redeemed")
	}
	// The response can be used once, in the right browser.
	for _, want := range []int{http.StatusSeeOther, http.StatusBadRequest} {
		if resp, _ := appGet(t, mallory, callback); resp.StatusCode != want {
			t.Errorf("status %d, want %d", resp.StatusCode, want)
		}
	}
}

func TestSE15_TabsSignInIndependently(t *testing.T) {
	a := newWebApp(t, nil)
	browser := a.browser(t)
	var tabs []string
	for i := range 3 {
		tabs = append(tabs, a.begin(t, browser, fmt.Sprintf("/auth/sign-in?return_to=/tab-%d", i)))
	}
	for _, i := range []int{2, 0, 1} {
		resp, _ := appGet(t, browser, "/auth/callback?"+a.authorize(t, tabs[i]).Encode())
		if got := resp.Header.Get("Location"); got != fmt.Sprintf("/tab-%d", i) {
			t.Errorf("tab %d returns to %q (%v)", i, got, a.failure)
		}
	}
}

func TestCookiesOfManyTabsAreLimited(t *testing.T) {
	a := newWebApp(t, nil)
	browser := a.browser(t)
	last := ""
	for range 50 {
		last = a.begin(t, browser, "/auth/sign-in?return_to=/"+strings.Repeat("x", 1000))
	}
	cookies := browser.Jar.Cookies(&url.URL{Scheme: "https", Host: "app.example", Path: "/"})
	if len(cookies) > 8 {
		t.Errorf("%d sign-ins are stored", len(cookies))
	}
	for _, cookie := range cookies {
		if len(cookie.Value) > 3900 {
			t.Errorf("a cookie has %d bytes", len(cookie.Value))
		}
	}
	if resp, _ := appGet(t, browser, "/auth/callback?"+a.authorize(t, last).Encode()); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("the newest is lost: status %d", resp.StatusCode)
	}
}

func TestST03_MixUpInAWebApplication(t *testing.T) {
	for name, change := range map[string]func(url.Values){
		"other iss": func(v url.Values) { v.Set("iss", "https://evil.example") },
		"no iss":    func(v url.Values) { v.Del("iss") },
	} {
		a := newWebApp(t, nil)
		browser := a.browser(t)
		response := a.authorize(t, a.begin(t, browser, "/auth/sign-in"))
		change(response)
		resp, _ := appGet(t, browser, "/auth/callback?"+response.Encode())
		if resp.StatusCode != http.StatusBadRequest || !errors.Is(a.failure, client.ErrMixUp) || a.count("/token") != 0 {
			t.Errorf("%s: status %d, %v, %d token requests", name, resp.StatusCode, a.failure, a.count("/token"))
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

func TestThirdPartyInitiatedLogin(t *testing.T) {
	a := newWebApp(t, func(_ *client.Config, p *client.RelyingPartyConfig) { p.Authorization.UILocales = []string{"de"} })
	for name, test := range map[string]struct {
		query    url.Values
		returnTo string // "" if rejected
	}{
		"only the issuer":         {url.Values{"iss": {a.issuer}}, "/"},
		"with a target":           {url.Values{"iss": {a.issuer}, "target_link_uri": {"https://app.example/notes?x=1"}}, "/notes?x=1"},
		"no issuer":               {url.Values{"login_hint": {"alice"}}, ""},
		"two issuers":             {url.Values{"iss": {a.issuer, "https://evil.example"}}, ""},
		"other issuer":            {url.Values{"iss": {"https://evil.example"}}, ""},
		"target elsewhere":        {url.Values{"iss": {a.issuer}, "target_link_uri": {"https://evil.example/"}}, ""},
		"target lookalike":        {url.Values{"iss": {a.issuer}, "target_link_uri": {"https://app.example.evil.example/"}}, ""},
		"target with a user":      {url.Values{"iss": {a.issuer}, "target_link_uri": {"https://app.example@evil.example/"}}, ""},
		"target unencrypted":      {url.Values{"iss": {a.issuer}, "target_link_uri": {"http://app.example/"}}, ""},
		"target with two slashes": {url.Values{"iss": {a.issuer}, "target_link_uri": {"https://app.example//evil.example"}}, ""},
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
						t.Errorf("status %d, Location %s", resp.StatusCode, resp.Header.Get("Location"))
					}
					return
				}
				u, err := url.Parse(resp.Header.Get("Location"))
				if err != nil || u.Query().Get("login_hint") != "alice@example.com" || u.Query().Get("ui_locales") != "de" {
					t.Fatalf("status %d, Location %s", resp.StatusCode, u)
				}
				resp, _ = appGet(t, browser, "/auth/callback?"+a.authorize(t, u.String()).Encode())
				if got := resp.Header.Get("Location"); got != test.returnTo {
					t.Errorf("returns to %q, want %q", got, test.returnTo)
				}
			})
		}
	}
}

func TestThirdPartyLoginHintIsLimited(t *testing.T) {
	a := newWebApp(t, nil)
	query := url.Values{"iss": {a.issuer}, "login_hint": {strings.Repeat("x", 1025)}}
	if resp, _ := appGet(t, a.browser(t), "/auth/initiate-login?"+query.Encode()); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("status %d", resp.StatusCode)
	}
}

func TestRefusedSignInIsShown(t *testing.T) {
	a := newWebApp(t, nil)
	browser := a.browser(t)
	response := a.authorize(t, a.begin(t, browser, "/auth/sign-in"))
	response.Del("code")
	response.Set("error", "access_denied")
	resp, _ := appGet(t, browser, "/auth/callback?"+response.Encode())
	if resp.StatusCode != http.StatusForbidden || !errors.Is(a.failure, &client.Error{Code: oauth.AccessDenied}) || a.signedIn(t, browser) {
		t.Errorf("status %d: %v", resp.StatusCode, a.failure)
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
		started := browser.Jar.Cookies(app)[0]
		browser.Jar.SetCookies(app, []*http.Cookie{{Name: started.Name, Value: change(started.Value), Path: "/", Secure: true}})
		resp, _ := appGet(t, browser, "/auth/callback?"+a.authorize(t, address).Encode())
		if resp.StatusCode != http.StatusBadRequest || !errors.Is(a.failure, client.ErrState) || a.signedIn(t, browser) {
			t.Errorf("%s: status %d: %v", name, resp.StatusCode, a.failure)
		}
	}
}

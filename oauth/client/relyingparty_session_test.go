package client_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/oauth/client"
)

func TestSessionFixationIsPrevented(t *testing.T) {
	a := newWebApp(t, func(_ *client.Config, p *client.RelyingPartyConfig) { p.CookiePrefix = "app-" })
	browser := a.browser(t)
	app := &url.URL{Scheme: "https", Host: "app.example", Path: "/"}
	planted := &http.Cookie{Name: "__Host-app-session", Value: strings.Repeat("A", 26), Path: "/", Secure: true}
	browser.Jar.SetCookies(app, []*http.Cookie{planted})
	a.signInTo(t, browser, "/")
	session := func() string {
		for _, cookie := range browser.Jar.Cookies(app) {
			if cookie.Name == "__Host-app-session" {
				return cookie.Value
			}
		}
		return ""
	}
	first := session()
	if first == planted.Value {
		t.Error("the session uses the attacker's cookie")
	}
	// Signing in again ends the previous session.
	a.signInTo(t, browser, "/")
	if session() == first {
		t.Error("the second sign-in uses the cookie of the first")
	}
	thief := a.browser(t)
	thief.Jar.SetCookies(app, []*http.Cookie{{Name: "__Host-app-session", Value: first, Path: "/", Secure: true}})
	if a.signedIn(t, thief) || !a.signedIn(t, browser) {
		t.Error("the previous session is still valid, or the new one is not")
	}
}

// Two parties on the same host.
func TestCookiePrefixKeepsTwoPartiesApart(t *testing.T) {
	prefix := func(name string) func(*client.Config, *client.RelyingPartyConfig) {
		return func(_ *client.Config, p *client.RelyingPartyConfig) { p.CookiePrefix = name }
	}
	otherCallback := func(c *client.Config, _ *client.RelyingPartyConfig) { c.RedirectURI += "-two" }
	for name, change := range map[string][2]func(*client.Config, *client.RelyingPartyConfig){
		"by CookiePrefix": {prefix("one-"), prefix("two-")},
		"by default":      {nil, otherCallback},
	} {
		one, two := newWebApp(t, change[0]), newWebApp(t, change[1])
		browser := one.browser(t)
		one.signInTo(t, browser, "/")
		browser.Transport = two
		if two.signedIn(t, browser) {
			t.Errorf("%s: signed in at the other party too", name)
		}
		two.signInTo(t, browser, "/")
		if browser.Transport = one; !one.signedIn(t, browser) {
			t.Errorf("%s: the second sign-in ended the first", name)
		}
	}
}

// A form posted by the provider's page is sent without the Lax cookie of the session.
func TestPreviousSessionEndsWithFormPost(t *testing.T) {
	a := newWebApp(t, func(_ *client.Config, p *client.RelyingPartyConfig) {
		p.Authorization.ResponseMode, p.CookiePrefix = "form_post", "app-"
	})
	browser := a.browser(t)
	app := &url.URL{Scheme: "https", Host: "app.example", Path: "/"}
	appPost(t, browser, "/auth/callback", a.authorize(t, a.begin(t, browser, "/auth/sign-in")))
	before := browser.Jar.Cookies(app)
	response := a.authorize(t, a.begin(t, browser, "/auth/sign-in"))
	request, err := http.NewRequest(http.MethodPost, "https://app.example/auth/callback", strings.NewReader(response.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, cookie := range browser.Jar.Cookies(app) {
		if cookie.Name != "__Host-app-session" {
			request.AddCookie(cookie)
		}
	}
	resp, err := (&http.Client{Transport: a, CheckRedirect: browser.CheckRedirect}).Do(request)
	if err != nil || resp.StatusCode != http.StatusSeeOther {
		t.Fatalf("got %v, %v (%v)", resp, err, a.failure)
	}
	for _, cookie := range before {
		cookie.Path, cookie.Secure = "/", true
	}
	old := a.browser(t)
	old.Jar.SetCookies(app, before)
	if a.signedIn(t, old) {
		t.Error("the previous session is still valid")
	}
}

func TestSessionsExpire(t *testing.T) {
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
			t.Error("the session is still valid")
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
		time.Sleep(2 * time.Hour) // the access token has expired
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

func TestEndedSessionDoesNotComeBackAfterARefresh(t *testing.T) {
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
		// The provider signs the user out during the refresh.
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

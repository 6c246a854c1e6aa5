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

	"github.com/valetkey/valetkey/oauth/client"
)

func defaultPage(_ *client.Config, p *client.RelyingPartyConfig) { p.Error = nil }

// link returns the URL of the link with the given text.
func link(t *testing.T, page, text string) string {
	t.Helper()
	found := regexp.MustCompile(`<a href="([^"]*)">` + regexp.QuoteMeta(text) + `</a>`).FindStringSubmatch(page)
	if found == nil {
		t.Fatalf("no link %q in %s", text, page)
	}
	return html.UnescapeString(found[1])
}

func TestErrorPageOfADeniedSignInHasLinks(t *testing.T) {
	a := newWebApp(t, defaultPage)
	browser := a.browser(t)
	response := a.authorize(t, a.begin(t, browser, "/auth/sign-in?return_to=/private?page=2"))
	response.Del("code")
	response.Set("error", "access_denied")
	response.Set("error_description", `<script>alert("denied")</script>`)
	resp, page := appGet(t, browser, "/auth/callback?"+response.Encode())
	if resp.StatusCode != http.StatusForbidden || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") || strings.Contains(page, "script") {
		t.Fatalf("%d, %s: %s", resp.StatusCode, resp.Header.Get("Content-Type"), page)
	}
	if policy := resp.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") {
		t.Errorf("the policy is %q", policy)
	}
	if !strings.Contains(page, "canceled") || link(t, page, "Back to the application") != "/" {
		t.Errorf("the page is %s", page)
	}
	// The link starts again and returns to the same page afterwards.
	address := a.begin(t, browser, link(t, page, "Try again"))
	resp, _ = appGet(t, browser, "/auth/callback?"+a.authorize(t, address).Encode())
	if got := resp.Header.Get("Location"); got != "/private?page=2" {
		t.Errorf("the second try returns to %q", got)
	}
}

func TestAStaleTabCanStartAgain(t *testing.T) {
	a := newWebApp(t, defaultPage)
	browser := a.browser(t)
	first := a.begin(t, browser, "/auth/sign-in?return_to=/private")
	for range 20 { // other tabs, until the first is forgotten
		a.begin(t, browser, "/auth/sign-in")
	}
	resp, page := appGet(t, browser, "/auth/callback?"+a.authorize(t, first).Encode())
	if resp.StatusCode != http.StatusBadRequest || !strings.Contains(page, "no longer valid") || a.signedIn(t, browser) {
		t.Fatalf("%d: %s", resp.StatusCode, page)
	}
	address := a.begin(t, browser, link(t, page, "Try again"))
	if resp, _ = appGet(t, browser, "/auth/callback?"+a.authorize(t, address).Encode()); resp.StatusCode != http.StatusSeeOther || !a.signedIn(t, browser) {
		t.Errorf("the second try: %d", resp.StatusCode)
	}
}

// A custom error page can have the same link.
func TestCustomErrorPageGetsTheTryAgainPath(t *testing.T) {
	a := newWebApp(t, nil)
	browser := a.browser(t)
	response := a.authorize(t, a.begin(t, browser, "/auth/sign-in?return_to=/albums"))
	response.Set("error", "access_denied")
	appGet(t, browser, "/auth/callback?"+response.Encode())
	failed, ok := errors.AsType[*client.SignInError](a.failure)
	if !ok || failed.TryAgain != "/auth/sign-in?return_to=%2Falbums" {
		t.Errorf("the application gets %#v", a.failure)
	}
}

// Servers reject requests with large headers, so too many cookies would lock the browser out.
func TestCookiesOfAllTabsFitIntoARequest(t *testing.T) {
	for name, returnTo := range map[string]string{"short": "/", "of all lengths": "", "long": "/" + strings.Repeat("x", 1000)} {
		a := newWebApp(t, func(c *client.Config, _ *client.RelyingPartyConfig) {
			if name == "long" {
				c.Scopes = append(c.Scopes, strings.Repeat("scope ", 20))
			}
		})
		browser := a.browser(t)
		a.signInTo(t, browser, "/")
		app := &url.URL{Scheme: "https", Host: "app.example", Path: "/"}
		for i := range 30 {
			path := returnTo
			if path == "" {
				path = "/" + strings.Repeat("y", i*33)
			}
			last := a.begin(t, browser, "/auth/sign-in?return_to="+path)
			bytes, kept := 0, 0
			for _, cookie := range browser.Jar.Cookies(app) {
				bytes += len(cookie.Name) + len(cookie.Value) + len("=; ")
				if strings.Contains(cookie.Name, "-sign-in-") {
					kept++
				}
			}
			if bytes > 4096 {
				t.Fatalf("%s: the cookies of %d tabs have %d bytes", name, kept, bytes)
			}
			if i == 29 {
				if kept < 2 || name == "short" && kept < 6 {
					t.Errorf("%s: only %d tabs can sign in", name, kept)
				}
				if resp, _ := appGet(t, browser, "/auth/callback?"+a.authorize(t, last).Encode()); resp.Header.Get("Location") != path {
					t.Errorf("%s: the newest tab returns to %q (%v)", name, resp.Header.Get("Location"), a.failure)
				}
			}
		}
	}
}

func TestSignInOptionsOfARequest(t *testing.T) {
	a := newWebApp(t, func(_ *client.Config, p *client.RelyingPartyConfig) {
		p.Authorization.UILocales = []string{"de"}
		p.SignInOptions = func(r *http.Request, options *client.AuthorizationOptions) error {
			switch r.FormValue("mode") {
			case "strong":
				options.ACRValues, options.Prompt = []string{"urn:mfa"}, []string{"login"}
				options.Scopes = []string{"openid", "admin"}
				options.Extra.Set("connection", "corp")
				options.RedirectURI = "https://evil.example/"
			case "refused":
				return fmt.Errorf("%w: not from this network", client.ErrRefused)
			case "broken":
				panic("assignment to entry in nil map")
			}
			options.LoginHint = r.FormValue("who")
			return nil
		}
	})
	browser := a.browser(t)
	strong, err := url.Parse(a.begin(t, browser, "/auth/sign-in?mode=strong&who=alice"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"acr_values": "urn:mfa", "prompt": "login", "scope": "openid admin", "connection": "corp", "login_hint": "alice", "ui_locales": "de", "redirect_uri": appRedirectURI,
	} {
		if got := strong.Query().Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if resp, _ := appGet(t, browser, "/auth/callback?"+a.authorize(t, strong.String()).Encode()); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("the callback: %d (%v)", resp.StatusCode, a.failure)
	}
	// Options of one request do not affect the next.
	plain, err := url.Parse(a.begin(t, browser, "/auth/sign-in"))
	if err != nil {
		t.Fatal(err)
	}
	if q := plain.Query(); q.Has("acr_values") || q.Has("connection") || q.Get("scope") != "openid api" {
		t.Errorf("the next sign-in requests %v", q)
	}
	for mode, want := range map[string]int{"refused": http.StatusForbidden, "broken": http.StatusInternalServerError} {
		if resp, _ := appGet(t, browser, "/auth/sign-in?mode="+mode); resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", mode, resp.StatusCode, want)
		}
	}
}

func TestOnSignInCanRejectAndAddData(t *testing.T) {
	role, failure := "", error(nil)
	a := newWebApp(t, func(_ *client.Config, p *client.RelyingPartyConfig) {
		p.Error = nil
		p.OnSignIn = func(_ *http.Request, s *client.Session) error {
			if s.Subject != "alice" || s.Tokens.Identity == nil {
				t.Errorf("OnSignIn gets %s", s.Subject)
			}
			s.Data = map[string]string{"role": role}
			return failure
		}
	})
	a.handler.(*http.ServeMux).Handle("/role", a.party.Require(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, client.SessionFrom(r.Context()).Data["role"])
	})))
	browser := a.browser(t)
	role = "editor"
	a.signInTo(t, browser, "/")
	if _, body := appGet(t, browser, "/role"); body != "editor" {
		t.Errorf("the role is %q", body)
	}
	for name, test := range map[string]struct {
		failure error
		status  int
		says    string
	}{
		"refused":     {fmt.Errorf("%w: alice is locked", client.ErrRefused), http.StatusForbidden, "may not use this application"},
		"other error": {errors.New("database is down: password=hunter2"), http.StatusInternalServerError, "Try again"},
	} {
		failure = test.failure
		other := a.browser(t)
		address := a.begin(t, other, "/auth/sign-in")
		resp, page := appGet(t, other, "/auth/callback?"+a.authorize(t, address).Encode())
		if resp.StatusCode != test.status || !strings.Contains(page, test.says) || strings.Contains(page, "locked") || strings.Contains(page, "hunter2") || a.signedIn(t, other) {
			t.Errorf("%s: %d, %s", name, resp.StatusCode, page)
		}
	}
	// A rejected sign-in does not end the previous session.
	if !a.signedIn(t, browser) {
		t.Error("the previous session has ended")
	}
}

// A provider with plain OAuth 2.0, like those of code hosts: it has no ID token, and identifies
// users by a number.
func TestSignInWithoutOpenID(t *testing.T) {
	for name, test := range map[string]struct {
		info string
		want string // "" for a rejected sign-in
	}{
		"a number":          {`{"login":"octocat","id":583231,"name":"Alice"}`, "583231"},
		"a large number":    {`{"id":9007199254740993,"name":"Alice"}`, "9007199254740993"},
		"a string":          {`{"id":"u-1","name":"Alice"}`, "u-1"},
		"no such member":    {`{"login":"octocat"}`, ""},
		"null":              {`{"id":null}`, ""},
		"empty":             {`{"id":""}`, ""},
		"zero":              {`{"id":0}`, ""},
		"negative":          {`{"id":-1}`, ""},
		"a fraction":        {`{"id":1.0}`, ""},
		"an exponent":       {`{"id":1e3}`, ""},
		"true":              {`{"id":true}`, ""},
		"an object":         {`{"id":{}}`, ""},
		"twice":             {`{"id":1,"id":2}`, ""},
		"in another case":   {`{"ID":1}`, ""},
		"an error with 200": {`{"message":"Bad credentials"}`, ""},
		"a list":            {`[{"id":1}]`, ""},
		"too long":          {`{"id":"` + strings.Repeat("1", 256) + `"}`, ""},
	} {
		a := newWebApp(t, func(c *client.Config, p *client.RelyingPartyConfig) {
			c.Scopes, c.UserInfoSubject = []string{"read:user"}, "id"
		})
		a.response = func(response map[string]any) { delete(response, "id_token"); delete(response, "refresh_token") }
		a.setHandler("/userinfo", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, test.info)
		})
		a.handler.(*http.ServeMux).Handle("/name", a.party.Require(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s := client.SessionFrom(r.Context())
			var claims struct{ Name string }
			if err := s.Decode(&claims); err != nil {
				t.Error(err)
			}
			fmt.Fprint(w, s.Subject, " ", s.UserInfo.Subject, " ", claims.Name)
		})))
		browser := a.browser(t)
		a.signInTo(t, browser, "/")
		if a.signedIn(t, browser) != (test.want != "") {
			t.Errorf("%s: signed in %v (%v)", name, a.signedIn(t, browser), a.failure)
			continue
		}
		if test.want == "" {
			continue
		}
		if _, body := appGet(t, browser, "/name"); body != test.want+" "+test.want+" Alice" {
			t.Errorf("%s: the page says %q", name, body)
		}
		appGet(t, browser, "/auth/sign-in?prompt=none")
		appPost(t, browser, "/auth/sign-out", nil)
		if a.signedIn(t, browser) {
			t.Errorf("%s: signed in after sign-out", name)
		}
	}
}

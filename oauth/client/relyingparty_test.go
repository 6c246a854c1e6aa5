package client_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

// webApp is a web application at https://app.example with a provider. failure is its last
// error.
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
		fmt.Fprintf(w, "signed in: %v", client.SessionFrom(r.Context()) != nil)
	})))
	a.handler = mux
	return a
}

// RoundTrip sends a browser's request to the application.
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

// begin starts a sign-in and returns the authorization URL.
func (a *webApp) begin(t *testing.T, browser *http.Client, path string) string {
	t.Helper()
	resp, _ := appGet(t, browser, path)
	if resp.StatusCode != http.StatusSeeOther || !strings.HasPrefix(resp.Header.Get("Location"), a.issuer+"/authorize") {
		t.Fatalf("%s: status %d, Location %s", path, resp.StatusCode, resp.Header.Get("Location"))
	}
	return resp.Header.Get("Location")
}

// signInTo signs the user in and returns the response of the callback.
func (a *webApp) signInTo(t *testing.T, browser *http.Client, returnTo string) *http.Response {
	t.Helper()
	address := a.begin(t, browser, "/auth/sign-in?return_to="+url.QueryEscape(returnTo))
	resp, _ := appGet(t, browser, "/auth/callback?"+a.authorize(t, address).Encode())
	return resp
}

func (a *webApp) signedIn(t *testing.T, browser *http.Client) bool {
	t.Helper()
	_, body := appGet(t, browser, "/")
	return body == "signed in: true"
}

func TestSE04_RelyingPartySignsInAndOut(t *testing.T) {
	a := newWebApp(t, nil)
	browser := a.browser(t)
	resp, _ := appGet(t, browser, "/private?page=2")
	if got := resp.Header.Get("Location"); got != "/auth/sign-in?return_to=%2Fprivate%3Fpage%3D2" {
		t.Fatalf("without a session: redirected to %s", got)
	}
	address := a.begin(t, browser, resp.Header.Get("Location"))
	resp, _ = appGet(t, browser, "/auth/callback?"+a.authorize(t, address).Encode())
	if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/private?page=2" {
		t.Fatalf("after sign-in: status %d, Location %s (%v)", resp.StatusCode, resp.Header.Get("Location"), a.failure)
	}
	if _, body := appGet(t, browser, "/private?page=2"); body != "alice page=2" {
		t.Errorf("the page is %q", body)
	}

	app := &url.URL{Scheme: "https", Host: "app.example", Path: "/"}
	copied := browser.Jar.Cookies(app)
	resp = appPost(t, browser, "/auth/sign-out", url.Values{"return_to": {"/bye"}})
	out, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || out.Path != "/logout" {
		t.Fatalf("sign-out redirects to %v (%v)", out, a.failure)
	}
	query := out.Query()
	if query.Get("id_token_hint") == "" || query.Get("post_logout_redirect_uri") != "https://app.example/auth/signed-out" {
		t.Errorf("sign-out requests %v", query)
	}
	if len(browser.Jar.Cookies(app)) != 0 {
		t.Error("the browser still has a cookie")
	}
	for _, cookie := range copied {
		cookie.Path, cookie.Secure = "/", true
	}
	browser.Jar.SetCookies(app, copied)
	if a.signedIn(t, browser) {
		t.Error("the session is still valid with a copy of its cookie")
	}
	if revoked := a.last(t, "/revoke").form.Get("token_type_hint"); revoked != "refresh_token" {
		t.Errorf("revoked token_type_hint: %q", revoked)
	}
	for state, want := range map[string]string{query.Get("state"): "/bye", "forged": "/", "": "/"} {
		resp, _ = appGet(t, browser, "/auth/signed-out?state="+state)
		if got := resp.Header.Get("Location"); got != want {
			t.Errorf("with the state %q: redirected to %s, want %s", state, got, want)
		}
	}
}

func TestRequireRedirectsOnlyPageVisits(t *testing.T) {
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
		started := resp.Cookies()[0]
		// Browsers send no Lax cookies with a form from the provider's page.
		want := http.SameSiteLaxMode
		if mode == "form_post" {
			want = http.SameSiteNoneMode
		}
		if !strings.HasPrefix(started.Name, "__Host-") || !strings.Contains(started.Name, "-sign-in-") || !started.Secure || !started.HttpOnly || started.Path != "/" || started.SameSite != want || started.MaxAge != 1800 {
			t.Errorf("%q: cookie of a sign-in: %v", mode, started)
		}
		if resp.Header.Get("Cache-Control") != "no-store" {
			t.Error("a sign-in can be cached")
		}
		resp, _ = appGet(t, browser, "/auth/callback?"+a.authorize(t, resp.Header.Get("Location")).Encode())
		var session *http.Cookie
		for _, cookie := range resp.Cookies() {
			if strings.HasPrefix(cookie.Name, "__Host-") && strings.HasSuffix(cookie.Name, "-session") {
				session = cookie
			} else if cookie.Name != started.Name || cookie.MaxAge >= 0 {
				t.Errorf("%q: the callback sets %v", mode, cookie)
			}
		}
		if session == nil || !session.Secure || !session.HttpOnly || session.Path != "/" || session.SameSite != http.SameSiteLaxMode || len(session.Value) < 26 {
			t.Errorf("%q: cookie of the session: %v", mode, session)
		}
	}
}

func TestSignOutFromAnotherSiteIsRejected(t *testing.T) {
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
			t.Errorf("%s: status %d", field, resp.StatusCode)
		}
	}
	if resp, _ := appGet(t, browser, "/auth/sign-out"); resp.StatusCode != http.StatusMethodNotAllowed || !a.signedIn(t, browser) {
		t.Errorf("GET: status %d", resp.StatusCode)
	}
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
		t.Error("accepted without a client")
	}
}

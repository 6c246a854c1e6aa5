package client_test

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/oauth/client"
)

// checked returns an application with a signed-in user, at a provider with session management.
func checked(t *testing.T, state string) (*webApp, *http.Client) {
	t.Helper()
	a := newWebApp(t, nil)
	a.metadata["check_session_iframe"] = a.issuer + "/check?x=1&y=2"
	config := a.config()
	config.RedirectURI = appRedirectURI
	c, err := client.Discover(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if a.party, err = client.NewRelyingParty(client.RelyingPartyConfig{Client: c}); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/auth/", a.party)
	mux.Handle("/", a.party.Load(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s := client.SessionFrom(r.Context()); s != nil {
			w.Write([]byte(s.Subject))
		}
	})))
	a.handler = mux
	browser := a.browser(t)
	response := a.authorize(t, a.begin(t, browser, "/auth/sign-in"))
	if state != "" {
		response.Set("session_state", state)
	}
	appGet(t, browser, "/auth/callback?"+response.Encode())
	return a, browser
}

func TestCheckSessionPage(t *testing.T) {
	a, browser := checked(t, `a.salt"><script>`)
	resp, body := appGet(t, browser, "/auth/check-session")
	frame := regexp.MustCompile(`<iframe hidden src="([^"]*)" data-ask="([^"]*)">`).FindStringSubmatch(body)
	if frame == nil {
		t.Fatalf("status %d: %s", resp.StatusCode, body)
	}
	if source, ask := html.UnescapeString(frame[1]), html.UnescapeString(frame[2]); source != a.issuer+"/check?x=1&y=2" || ask != clientID+` a.salt"><script>` {
		t.Errorf("the frame is %s and sends %s", source, ask)
	}
	policy := resp.Header.Get("Content-Security-Policy")
	for _, want := range []string{"frame-src http://localhost;", "frame-ancestors 'self'", "script-src 'sha256-"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy %q does not have %q", policy, want)
		}
	}
	if resp, _ := appGet(t, a.browser(t), "/auth/check-session"); resp.StatusCode != http.StatusNoContent {
		t.Errorf("without a session: %d", resp.StatusCode)
	}
	for _, state := range []string{"", strings.Repeat("x", 600), "a\nb"} {
		_, browser := checked(t, state)
		if resp, _ := appGet(t, browser, "/auth/check-session"); resp.StatusCode != http.StatusNoContent {
			t.Errorf("with the state %q: %d", state, resp.StatusCode)
		}
	}
}

func TestSilentSignIn(t *testing.T) {
	for name, test := range map[string]struct {
		change  func(*webApp, url.Values)
		status  int
		subject string // of the session afterwards
	}{
		"the same user":           {func(*webApp, url.Values) {}, http.StatusSeeOther, "alice"},
		"login_required":          {func(_ *webApp, v url.Values) { v.Set("error", "login_required") }, http.StatusSeeOther, ""},
		"interaction_required":    {func(_ *webApp, v url.Values) { v.Set("error", "interaction_required") }, http.StatusSeeOther, ""},
		"temporarily_unavailable": {func(_ *webApp, v url.Values) { v.Set("error", "temporarily_unavailable") }, http.StatusForbidden, "alice"},
		"another user": {func(a *webApp, _ url.Values) {
			a.claims = func(claims map[string]any) { claims["sub"] = "bob" }
		}, http.StatusSeeOther, ""},
		"forged": {func(_ *webApp, v url.Values) { v.Set("error", "login_required"); v.Set("iss", "https://evil.example") }, http.StatusBadRequest, "alice"},
	} {
		t.Run(name, func(t *testing.T) {
			a, browser := checked(t, "state.salt")
			address := a.beginFrom(t, browser, "same-origin", "/auth/sign-in?prompt=none&return_to=/page")
			u, err := url.Parse(address)
			if err != nil || u.Query().Get("prompt") != "none" || u.Query().Get("id_token_hint") == "" {
				t.Errorf("the authorization request is %s", u)
			}
			response := a.authorize(t, address)
			test.change(a, response)
			resp, _ := appGet(t, browser, "/auth/callback?"+response.Encode())
			if resp.StatusCode != test.status || test.status == http.StatusSeeOther && resp.Header.Get("Location") != "/page" {
				t.Errorf("status %d, Location %s", resp.StatusCode, resp.Header.Get("Location"))
			}
			if _, body := appGet(t, browser, "/"); body != test.subject {
				t.Errorf("signed in as %q, want %q", body, test.subject)
			}
		})
	}
}

// beginFrom starts a sign-in from a link on another page, and returns the authorization URL.
func (a *webApp) beginFrom(t *testing.T, browser *http.Client, site, path string) string {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, "https://app.example"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if site != "" {
		request.Header.Set("Sec-Fetch-Site", site)
	}
	resp, err := browser.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Get("Location")
}

// Any site can start a silent sign-in so that the provider does not recognize the browser.
func TestSilentSignInFromAnotherSiteDoesNotEndTheSession(t *testing.T) {
	for _, site := range []string{"cross-site", "same-site", ""} {
		for name, change := range map[string]func(*webApp, url.Values){
			"login_required": func(_ *webApp, v url.Values) { v.Set("error", "login_required") },
			"wants":          func(_ *webApp, v url.Values) { v.Set("error", "consent_required") },
			"denied":         func(_ *webApp, v url.Values) { v.Set("error", "access_denied") },
			"another user": func(a *webApp, _ url.Values) {
				a.claims = func(claims map[string]any) { claims["sub"] = "bob" }
			},
		} {
			a, browser := checked(t, "state.salt")
			response := a.authorize(t, a.beginFrom(t, browser, site, "/auth/sign-in?prompt=none"))
			change(a, response)
			if resp, _ := appGet(t, browser, "/auth/callback?"+response.Encode()); resp.StatusCode != http.StatusSeeOther {
				t.Errorf("%s from %q: %d", name, site, resp.StatusCode)
			}
			if _, body := appGet(t, browser, "/"); body != "alice" {
				t.Errorf("%s from %q: signed in as %q", name, site, body)
			}
		}
	}
}

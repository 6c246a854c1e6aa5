package authserver_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// refusedURIs returns redirect URIs that resemble the registered https://app.example/cb.
func refusedURIs() map[string][]string {
	return map[string][]string{
		"RU01": {
			"https://app.example/cb/x", "https://app.example/cb?x=1", "https://app.example/cb/", "https://app.example/CB",
			"https://app.example.evil.test/cb", "//app.example/cb", "HTTPS://app.example/cb", "https://APP.example/cb",
			"https://app.example:443/cb", "https://app.example/cb?", "https://app.example./cb", " https://app.example/cb", "https://app.example/cb ",
		},
		"RU02": {
			"https://app.example@evil.test/cb", "https://app.example%40evil.test/cb", "https://a@app.example/cb", "https://app.example:x@evil.test/cb",
			"https://app.example\\@evil.test/cb", "https://@app.example/cb",
		},
		"RU03": {
			"https://app.example/cb/../evil", "https://app.example/cb/..;/evil", "https://app.example/%2e%2e%2fcb", "https://app.example/x/../cb",
			"https://app.example\\cb", "https://app.example/./cb", "https://app.example/%63b", "https:///app.example/cb", "https:app.example/cb",
		},
		"RU04": {
			"javascript:alert(1)", "JaVaScRiPt:alert(1)", "\tjavascript:alert(1)", "data:text/html,x", "vbscript:x", "blob:https://app.example/x", "file:///etc/passwd",
		},
		"RU10": {"https://app.example/cb#x", "https://app.example/cb#", "https://app.example/cb%23"},
	}
}

func singleURISetup() scriptSetup {
	return scriptSetup{Clients: []testClient{confidential("app", func(c *record.Client) {
		c.RedirectURIs = []string{"https://app.example/cb"}
		c.SkipConsent = true
	})}}
}

func TestRU01_RU02_RU03_RU04_RU10_OnlyTheRegisteredURIIsAccepted(t *testing.T) {
	s := newScene(t, singleURISetup())
	for id, uris := range refusedURIs() {
		for _, uri := range uris {
			response := s.authorize("ada", query("app", "redirect_uri", uri))
			if response.StatusCode != http.StatusBadRequest || response.Header.Get("Location") != "" {
				t.Errorf("%s: %q: status %d, Location %q", id, uri, response.StatusCode, response.Header.Get("Location"))
			}
		}
	}
	if response := s.authorize("ada", query("app", "redirect_uri", "https://app.example/cb")); response.StatusCode != http.StatusSeeOther {
		t.Errorf("the registered URI: status %d", response.StatusCode)
	}
}

// Each pair of other mistakes is combined with a redirect URI that is not registered.
func TestRU11_NoErrorRedirectsToAnUnverifiedURI(t *testing.T) {
	s := newScene(t, singleURISetup())
	mistakes := [][2]string{
		{"prompt", "none"}, {"prompt", "none login"}, {"scope", "unknown"}, {"scope", `"`}, {"response_type", "token"}, {"response_type", ""},
		{"response_mode", "web_message"}, {"response_mode", "form_post"}, {"response_mode", "fragment"}, {"code_challenge", ""}, {"code_challenge_method", "plain"},
		{"claims", "{"}, {"max_age", "-1"}, {"id_token_hint", "x"}, {"request", "x"}, {"request_uri", "x"}, {"registration", "{}"},
		{"resource", "x"}, {"state", strings.Repeat("x", 5000)}, {"nonce", strings.Repeat("x", 2000)},
	}
	for _, a := range mistakes {
		for _, b := range mistakes {
			for _, uri := range []string{"https://evil.test/cb", "https://app.example/cb2"} {
				for _, subject := range []string{"", "ada"} {
					response := s.authorize(subject, query("app", "redirect_uri", uri, a[0], a[1], b[0], b[1]))
					if response.StatusCode != http.StatusBadRequest || response.Header.Get("Location") != "" {
						t.Fatalf("%v and %v with %s: %d, Location %q", a, b, uri, response.StatusCode, response.Header.Get("Location"))
					}
				}
			}
		}
	}
}

func TestRU12_LocationStartsWithTheRegisteredURI(t *testing.T) {
	for registered, want := range map[string]string{
		"https://App.Example:443/a%2Fb":   "https://App.Example:443/a%2Fb?code=",
		"https://app.example/cb?":         "https://app.example/cb?code=",
		"https://app.example/cb?a=b":      "https://app.example/cb?a=b&code=",
		"https://app.example/cb?a=b&":     "https://app.example/cb?a=b&code=",
		"https://app.example":             "https://app.example?code=",
		"https://app.example/%7Ecb?x=%zz": "https://app.example/%7Ecb?x=%zz&code=",
		"com.example.app:/cb":             "com.example.app:/cb?code=",
	} {
		s := newScene(t, scriptSetup{Clients: []testClient{confidential("app", func(c *record.Client) { c.RedirectURIs = []string{registered} })}})
		location := s.authorize("ada", query("app", "redirect_uri", registered)).Header.Get("Location")
		if !strings.HasPrefix(location, want) {
			t.Errorf("%s: redirected to %s", registered, location)
		}
	}
}

func TestRU13_RepeatedRedirectURIIsRefused(t *testing.T) {
	s := newScene(t, singleURISetup())
	good, evil := url.QueryEscape("https://app.example/cb"), url.QueryEscape("https://evil.test/cb")
	for _, pair := range [][2]string{{good, evil}, {evil, good}, {good, good}} {
		response := s.authorize("ada", query("app", "redirect_uri", "")+"&redirect_uri="+pair[0]+"&redirect_uri="+pair[1])
		if response.StatusCode != http.StatusBadRequest || response.Header.Get("Location") != "" {
			t.Errorf("%v: status %d, Location %q", pair, response.StatusCode, response.Header.Get("Location"))
		}
	}
}

func TestRU14_ParametersCannotInjectHeaders(t *testing.T) {
	s := newScene(t, singleURISetup())
	response := s.authorize("ada", query("app", "redirect_uri", "https://app.example/cb", "state", "a\r\nSet-Cookie: x=y"))
	if response.Header.Get("Set-Cookie") != "" {
		t.Error("state was injected as a cookie")
	}
	location, err := response.Location()
	if err != nil || location.Query().Get("state") != "a\r\nSet-Cookie: x=y" {
		t.Errorf("the redirect with the state is %v (%v)", location, err)
	}
	if response := s.authorize("ada", query("app", "redirect_uri", "https://app.example/cb\r\nX: y")); response.StatusCode != http.StatusBadRequest {
		t.Errorf("a redirect URI with a line break: status %d", response.StatusCode)
	}
}

func TestRU15_EveryRedirectIs303(t *testing.T) {
	s := newScene(t, singleURISetup())
	for _, q := range []string{"", "prompt=none", "response_mode=fragment"} {
		for _, subject := range []string{"", "ada"} {
			if status := s.authorize(subject, query("app", "redirect_uri", "https://app.example/cb")+"&"+q).StatusCode; status != http.StatusSeeOther {
				t.Errorf("%q for %q: status %d", q, subject, status)
			}
		}
	}
}

// Parameters that contain URLs never change the target of a redirect.
func TestOR02_NoParameterRedirectsToAnotherOrigin(t *testing.T) {
	s := newScene(t, singleURISetup())
	for _, name := range []string{"next", "returnTo", "return_to", "redirect", "url", "RelayState", "ui_locales", "login_hint", "target_link_uri", "post_logout_redirect_uri"} {
		for _, value := range []string{"https://evil.test/", "//evil.test", `/\evil.test`, "javascript:alert(1)"} {
			response := s.authorize("", query("app", "redirect_uri", "https://app.example/cb", name, value))
			if location := response.Header.Get("Location"); !strings.HasPrefix(location, "/sign-in?interaction=") || strings.Contains(location, "evil") {
				t.Errorf("%s=%s: redirected to %s", name, value, location)
			}
		}
	}
}

// The issuer is configured, so request headers do not change URLs in the response.
func TestOR04_HostAndForwardedHeadersAreIgnored(t *testing.T) {
	s := newScene(t, singleURISetup())
	plain := s.authorize("", query("app", "redirect_uri", "https://app.example/cb", "prompt", "none"))
	want, err := plain.Location()
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequest(http.MethodGet, "/authorize?"+query("app", "redirect_uri", "https://app.example/cb", "prompt", "none"), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "evil.test"
	for name, value := range map[string]string{
		"X-Forwarded-Host": "evil.test", "X-Forwarded-Proto": "http", "X-Forwarded-For": "10.0.0.1", "Forwarded": "host=evil.test",
		"X-Original-URL": "/token", "X-Rewrite-URL": "/token", "X_Forwarded_Host": "evil.test",
	} {
		r.Header.Set(name, value)
	}
	a := s.do(r)
	got, err := url.Parse(a.header.Get("Location"))
	if err != nil || got.Query().Get("iss") != want.Query().Get("iss") || got.Host != want.Host || strings.Contains(got.String(), "evil") {
		t.Errorf("with another host in the headers: redirected to %s", got)
	}
}

func TestST02_EveryResponseHasIss(t *testing.T) {
	s := newScene(t, singleURISetup())
	for _, q := range []string{query("app", "redirect_uri", "https://app.example/cb"), query("app", "redirect_uri", "https://app.example/cb", "scope", "unknown")} {
		location, err := s.authorize("ada", q).Location()
		if err != nil || location.Query().Get("iss") != scriptIssuer || len(location.Query()["iss"]) != 1 {
			t.Errorf("the response is %v (%v)", location, err)
		}
	}
}

// A declared native client must list redirect schemes that do not belong to a domain, because any
// application could register them.
func TestRU08_RedirectSchemesOfDeclaredClients(t *testing.T) {
	client := func(applicationType string, schemes []string, uris ...string) record.Client {
		return record.Client{ID: "app", ClientMetadata: oauth.ClientMetadata{
			ApplicationType: applicationType, TokenEndpointAuthMethod: oauth.AuthMethodNone, RedirectURIs: uris,
		}, ClientSettings: record.ClientSettings{RedirectSchemes: schemes}}
	}
	for _, good := range []record.Client{
		client("native", []string{"oc", "audiobookshelf"}, "oc://android.owncloud.com", "audiobookshelf://oauth"),
		client("native", nil, "com.example.app://host/cb", "com.example.app:/cb"),
	} {
		if problems := authserver.CheckClient(good); len(problems) > 0 {
			t.Errorf("%v: %v", good.RedirectURIs, problems)
		}
	}
	for want, bad := range map[string]record.Client{
		"redirect_uris[0]":    client("native", nil, "oc://android.owncloud.com"),
		"redirect_uris[1]":    client("native", []string{"oc"}, "oc://cb", "audiobookshelf://oauth"),
		"redirect_schemes":    client("web", []string{"oc"}, "oc://cb"),
		"redirect_schemes[0]": client("native", []string{"javascript"}, "https://app.example/cb"),
	} {
		problems := authserver.CheckClient(bad)
		if len(problems) == 0 || problems[0].Member != want {
			t.Errorf("%s: %v", want, problems)
		}
	}
}

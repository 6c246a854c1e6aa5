package client_test

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/oauth/client"
)

// twoParties is an application with two providers: one host, one client ID, one store, one
// key, and a callback for each provider.
func twoParties(t *testing.T, prefixes ...string) (one, two *webApp) {
	t.Helper()
	key, store := make([]byte, 32), client.NewMemorySessions(10)
	party := func(path, prefix, issuer string) *webApp {
		a := &webApp{provider: newProvider(t)}
		config := a.config()
		a.issuer, config.Issuer = issuer, issuer
		for name, value := range a.metadata {
			if text, ok := value.(string); ok {
				a.metadata[name] = strings.Replace(text, "http://localhost", issuer, 1)
			}
		}
		config.RedirectURI = "https://app.example" + path + "/callback"
		c, err := client.Discover(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		a.party, err = client.NewRelyingParty(client.RelyingPartyConfig{
			Client: c, CookieKey: key, Sessions: store, CookiePrefix: prefix,
			Error: func(w http.ResponseWriter, _ *http.Request, status int, err error) {
				a.failure = err
				w.WriteHeader(status)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	one, two = party("/one", prefixes[0], "http://localhost"), party("/two", prefixes[1], "http://127.0.0.1")
	mux := http.NewServeMux()
	mux.Handle("/one/", one.party)
	mux.Handle("/two/", two.party)
	mux.Handle("/one-home", one.party.Load(http.HandlerFunc(showUser)))
	mux.Handle("/two-home", two.party.Load(http.HandlerFunc(showUser)))
	one.handler, two.handler = mux, mux
	return one, two
}

func showUser(w http.ResponseWriter, r *http.Request) {
	if s := client.SessionFrom(r.Context()); s != nil {
		w.Write([]byte(s.Issuer + " " + s.Subject))
	}
}

// CU-01: two authorization servers use the same client ID for the application. A malicious one
// makes the browser send its response, or another one, to the wrong callback.
func TestCU01_CallbacksOfTwoServersAreNotMixedUp(t *testing.T) {
	for _, prefixes := range [][]string{{"", ""}, {"one-", "two-"}} {
		for name, change := range map[string]func(url.Values){
			"unchanged":            func(url.Values) {},
			"with the other's iss": func(v url.Values) { v.Set("iss", "http://127.0.0.1") },
			"without iss":          func(v url.Values) { v.Del("iss") },
		} {
			one, two := twoParties(t, prefixes...)
			browser := one.browser(t)
			response := one.authorize(t, one.begin(t, browser, "/one/sign-in"))
			change(response)
			resp, _ := appGet(t, browser, "/two/callback?"+response.Encode())
			if resp.StatusCode != http.StatusBadRequest || !errors.Is(two.failure, client.ErrMixUp) && !errors.Is(two.failure, client.ErrState) {
				t.Errorf("%v %s: %d, %v", prefixes, name, resp.StatusCode, two.failure)
			}
			if n := two.count("/token") + one.count("/token"); n != 0 {
				t.Errorf("%v %s: the code was sent to a server", prefixes, name)
			}
		}
	}
}

// CU-01: two connections to one server, with a shared key, store and prefix of cookies: the
// issuer in the response does not tell them apart. An attacker who owns one of them sends the
// browser on to the server with the redirect URI of the other.
func TestCU01_ConnectionsToOneServerAreNotMixedUp(t *testing.T) {
	one := newWebApp(t, func(_ *client.Config, config *client.RelyingPartyConfig) {
		config.CookieKey, config.CookiePrefix = make([]byte, 32), "app-"
	})
	connect := func(redirectURI, clientID string) *client.RelyingParty {
		c := one.discover(t, func(config *client.Config) { config.ClientID, config.RedirectURI = clientID, redirectURI })
		party, err := client.NewRelyingParty(client.RelyingPartyConfig{
			Client: c, CookieKey: make([]byte, 32), CookiePrefix: "app-",
			Error: func(w http.ResponseWriter, _ *http.Request, status int, err error) {
				one.failure = err
				w.WriteHeader(status)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		return party
	}
	mux := http.NewServeMux()
	mux.Handle("/auth/", one.party)
	mux.Handle("/other-client/", connect("https://app.example/other-client/callback", "other"))
	mux.Handle("/other-uri/", connect("https://app.example/other-uri/callback", clientID))
	one.handler = mux
	for _, callback := range []string{"/other-client/callback", "/other-uri/callback", "/auth/callback"} {
		browser := one.browser(t)
		response := one.authorize(t, one.begin(t, browser, "/auth/sign-in"))
		before := one.count("/token")
		resp, _ := appGet(t, browser, callback+"?"+response.Encode())
		if ours := callback == "/auth/callback"; ours != (resp.StatusCode == http.StatusSeeOther) || ours != (one.count("/token") > before) {
			t.Errorf("%s: %d, %v, %d token requests", callback, resp.StatusCode, one.failure, one.count("/token")-before)
		}
	}
}

// CU-02: an attacker starts a flow with the same client ID elsewhere, with another library or
// none, and makes the victim's browser complete it here.
func TestCU02_CallbacksOfForeignFlowsAreRejected(t *testing.T) {
	one, _ := twoParties(t, "", "")
	other := one.discover(t, func(c *client.Config) { c.RedirectURI = "https://app.example/one/callback" })
	address, _, err := other.AuthorizationURL(t.Context(), client.AuthorizationOptions{})
	if err != nil {
		t.Fatal(err)
	}
	response := one.authorize(t, address)
	for _, began := range []bool{false, true} {
		browser := one.browser(t)
		if began {
			one.begin(t, browser, "/one/sign-in")
		}
		resp, _ := appGet(t, browser, "/one/callback?"+response.Encode())
		if resp.StatusCode != http.StatusBadRequest || !errors.Is(one.failure, client.ErrState) || one.count("/token") != 0 {
			t.Errorf("%d, %v", resp.StatusCode, one.failure)
		}
	}
}

// CU-03: the attacker's link completes the attacker's sign-in in the victim's browser, with the
// victim signed in or not.
func TestCU03_LinkCannotCompleteAnAttackersSignIn(t *testing.T) {
	for _, signedIn := range []bool{false, true} {
		a := newWebApp(t, nil)
		attacker, victim := a.browser(t), a.browser(t)
		if signedIn {
			a.signInTo(t, victim, "/")
		}
		a.claims = func(claims map[string]any) { claims["sub"] = "mallory" }
		link := "/auth/callback?" + a.authorize(t, a.begin(t, attacker, "/auth/sign-in")).Encode()
		// The attacker can set a cookie for the host, but only with another name.
		app := &url.URL{Scheme: "https", Host: "app.example", Path: "/"}
		for _, cookie := range attacker.Jar.Cookies(app) {
			victim.Jar.SetCookies(app, []*http.Cookie{{Name: strings.TrimPrefix(cookie.Name, "__Host-"), Value: cookie.Value, Path: "/", Secure: true}})
		}
		before := a.count("/token")
		if resp, _ := appGet(t, victim, link); resp.StatusCode != http.StatusBadRequest || !errors.Is(a.failure, client.ErrState) || a.count("/token") != before {
			t.Errorf("%d, %v", resp.StatusCode, a.failure)
		}
		if a.signedIn(t, victim) != signedIn {
			t.Errorf("the victim was signed in: %v; now it is different", signedIn)
		}
		if _, body := appGet(t, victim, "/private"); strings.HasPrefix(body, "mallory") {
			t.Error("the victim is signed in to the attacker's account")
		}
	}
}

// With a shared store and cookie, a session of one provider is not valid for another: there,
// the same sub is another user.
func TestSessionsOfAnotherIssuerAreIgnored(t *testing.T) {
	one, _ := twoParties(t, "", "")
	browser := one.browser(t)
	resp, _ := appGet(t, browser, "/one/callback?"+one.authorize(t, one.begin(t, browser, "/one/sign-in")).Encode())
	if resp.StatusCode != http.StatusSeeOther {
		t.Fatalf("%d, %v", resp.StatusCode, one.failure)
	}
	if _, body := appGet(t, browser, "/one-home"); body != "http://localhost alice" {
		t.Errorf("first party: %q", body)
	}
	if _, body := appGet(t, browser, "/two-home"); body != "" {
		t.Errorf("second party: %q", body)
	}
}

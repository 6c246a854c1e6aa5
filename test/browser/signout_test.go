package browser

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/demo"
	"github.com/valetkey/valetkey/internal/chromium"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

// signOutPage shows the signed-in user, has a button to sign out, and shows the messages of the
// frame that watches the session.
const signOutPage = `<!doctype html><title>%[1]s</title><p id="who">%[2]s</p>
<form method="post" action="/auth/sign-out"><button>Sign out</button></form>
<p id="session">unchanged</p><iframe hidden src="/auth/check-session"></iframe>
<script>addEventListener("message", e => { if (e.origin === location.origin) document.querySelector("#session").textContent = e.data })</script>`

// A user who signs out of one application is signed out of the other one too, with each logout
// mechanism.
func TestSignOutOfTwoApplications(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	ctx := chromium.Start(t, 3*time.Minute)
	for name, configure := range map[string]func(*oauth.ClientMetadata, oauth.ClientMetadata){
		"back channel": func(m *oauth.ClientMetadata, own oauth.ClientMetadata) {
			m.BackchannelLogoutURI = own.BackchannelLogoutURI
		},
		"front channel": func(m *oauth.ClientMetadata, own oauth.ClientMetadata) {
			m.FrontchannelLogoutURI = own.FrontchannelLogoutURI
		},
		"session management": func(*oauth.ClientMetadata, oauth.ClientMetadata) {},
	} {
		t.Run(name, func(t *testing.T) {
			var clients []configuration.Client
			apps := map[string]*httptest.Server{}
			for _, id := range []string{"album", "notes"} {
				app := httptest.NewUnstartedServer(nil)
				app.URL = "http://" + app.Listener.Addr().String()
				apps[id] = app
				m := oauth.ClientMetadata{
					ClientName: id, RedirectURIs: []string{app.URL + "/auth/callback"}, PostLogoutRedirectURIs: []string{app.URL + "/auth/signed-out"},
					Scope: "openid profile",
				}
				own := registration(t, app.URL)
				configure(&m, own)
				clients = append(clients, configuration.Client{ID: id, Secret: "a-secret-of-more-than-32-characters", ClientMetadata: m})
			}
			s := authservertest.NewServer(t, authservertest.Config{Declarations: configuration.Declarations{
				Users: []configuration.User{{Username: demo.Username, Password: demo.Password}}, Clients: clients,
			}})
			for id, app := range apps {
				app.Config.Handler = signOutApplication(t, s.Issuer, id, app.URL)
				app.URL = "" // Start sets it, and panics if it is set
				app.Start()
				t.Cleanup(app.Close)
			}
			v := &visit{T: t, ctx: ctx, folder: filepath.Join(artifacts, "signout")}
			v.do("begin", forgetCookies(), chromedp.Navigate(apps["album"].URL+"/"))
			v.signIn()
			v.allow()
			v.do("album", chromedp.WaitVisible(chromedp.CSS("#who")))
			other := v.tab()
			other.do("visit", chromedp.Navigate(apps["notes"].URL+"/"))
			other.allow()
			other.do("notes", chromedp.WaitVisible(chromedp.CSS("#who")))
			if v.text("#who") == "" || other.text("#who") == "" || v.text("#session") != "unchanged" {
				t.Fatalf("signed in are %q and %q, and the session is %q", v.text("#who"), other.text("#who"), v.text("#session"))
			}

			other.do("sign out", chromedp.Click(chromedp.CSS("button")))
			other.shows("signed out", "#home", "signed out")
			if name == "session management" {
				v.do("watch", chromedp.WaitVisible(chromedp.CSS("#session")))
				v.eventually("#session", "changed")
				v.do("check the session", chromedp.Navigate(apps["album"].URL+"/auth/sign-in?prompt=none&return_to=/home"))
			}
			deadline := time.Now().Add(patience)
			for {
				v.do("look", chromedp.Navigate(apps["album"].URL+"/home"), chromedp.WaitVisible(chromedp.CSS("#home")))
				said := v.text("#home")
				if said == "signed out" {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("the other application shows %q", said)
				}
			}
		})
	}
}

// eventually waits until an element has a text.
func (v *visit) eventually(selector, text string) {
	v.Helper()
	deadline := time.Now().Add(patience)
	for v.text(selector) != text {
		if time.Now().After(deadline) {
			v.Fatalf("%s contains %q", selector, v.text(selector))
		}
	}
}

// registration returns the metadata that the relying party at a URL has to register.
func registration(t *testing.T, base string) oauth.ClientMetadata {
	t.Helper()
	config := client.Config{Issuer: "https://any.example", ClientID: "any", RedirectURI: base + "/auth/callback"}
	c, err := client.New(oauth.ServerMetadata{Issuer: config.Issuer}, config)
	if err != nil {
		t.Fatal(err)
	}
	party, err := client.NewRelyingParty(client.RelyingPartyConfig{Client: c})
	if err != nil {
		t.Fatal(err)
	}
	return party.Registration()
}

func signOutApplication(t *testing.T, issuer, id, base string) http.Handler {
	t.Helper()
	c, err := client.Discover(t.Context(), client.Config{
		Issuer: issuer, ClientID: id, ClientSecret: "a-secret-of-more-than-32-characters", RedirectURI: base + "/auth/callback",
		Scopes: []string{"openid", "profile"},
	})
	if err != nil {
		t.Fatal(err)
	}
	party, err := client.NewRelyingParty(client.RelyingPartyConfig{
		Client: c, Home: "/home", Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		// Cookies do not separate ports: two applications on one host need different names.
		CookiePrefix: id + "-",
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/auth/", party)
	mux.Handle("/{$}", party.Require(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, signOutPage, id, client.SessionFrom(r.Context()).Subject)
	})))
	mux.Handle("/home", party.Load(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := "signed out"
		if client.SessionFrom(r.Context()) != nil {
			who = "signed in"
		}
		fmt.Fprintf(w, `<!doctype html><p id="home">%s</p>`, who)
	})))
	return mux
}

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

// signOutPage says who is signed in, signs out, and shows what the frame that watches the
// session says.
const signOutPage = `<!doctype html><title>%[1]s</title><p id="who">%[2]s</p>
<form method="post" action="/auth/sign-out"><button>Sign out</button></form>
<p id="session">as before</p><iframe hidden src="/auth/check-session"></iframe>
<script>addEventListener("message", e => { if (e.origin === location.origin) document.querySelector("#session").textContent = e.data })</script>`

// Two applications of our relying party at our server: who signs out of one is signed out
// of the other, by each way that there is.
func TestSigningOutOfTwoApplications(t *testing.T) {
	if testing.Short() {
		t.Skip("a browser takes seconds")
	}
	ctx := chromium.Start(t, 3*time.Minute)
	for name, tell := range map[string]func(*oauth.ClientMetadata, oauth.ClientMetadata){
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
				tell(&m, own)
				clients = append(clients, configuration.Client{ID: id, Secret: "a-secret-of-more-than-32-characters", ClientMetadata: m})
			}
			s := authservertest.NewServer(t, authservertest.Config{Declarations: configuration.Declarations{
				Users: []configuration.User{{Username: demo.Username, Password: demo.Password}}, Clients: clients,
			}})
			for id, app := range apps {
				app.Config.Handler = signOutApplication(t, s.Issuer, id, app.URL)
				app.URL = "" // Start sets it, and wants it so
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
			if v.text("#who") == "" || other.text("#who") == "" || v.text("#session") != "as before" {
				t.Fatalf("signed in are %q and %q, and the session is %q", v.text("#who"), other.text("#who"), v.text("#session"))
			}

			other.do("sign out", chromedp.Click(chromedp.CSS("button")))
			other.shows("signed out", "#home", "nobody")
			if name == "session management" {
				v.do("watch", chromedp.WaitVisible(chromedp.CSS("#session")))
				v.eventually("#session", "changed")
				v.do("ask", chromedp.Navigate(apps["album"].URL+"/auth/sign-in?prompt=none&return_to=/home"))
			}
			deadline := time.Now().Add(patience)
			for {
				v.do("look", chromedp.Navigate(apps["album"].URL+"/home"), chromedp.WaitVisible(chromedp.CSS("#home")))
				said := v.text("#home")
				if said == "nobody" {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("at the other application: %q", said)
				}
			}
		})
	}
}

// eventually waits until an element says a text.
func (v *visit) eventually(selector, text string) {
	v.Helper()
	deadline := time.Now().Add(patience)
	for v.text(selector) != text {
		if time.Now().After(deadline) {
			v.Fatalf("%s says %q", selector, v.text(selector))
		}
	}
}

// registration is what the relying party at a URL has to register.
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
		// Cookies know no ports: two applications on one host must not share names.
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
		who := "nobody"
		if client.SessionFrom(r.Context()) != nil {
			who = "somebody"
		}
		fmt.Fprintf(w, `<!doctype html><p id="home">%s</p>`, who)
	})))
	return mux
}

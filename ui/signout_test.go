package ui

import (
	"html"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/chromium"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/record"
)

// application is a web application with a sign-in, which is notified of logouts.
type application struct {
	*httptest.Server
	slow chan struct{} // /slow waits for it

	mu       sync.Mutex
	notified []string
}

func newApplication(t *testing.T, check string) *application {
	a := &application{slow: make(chan struct{})}
	a.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		switch r.URL.Path {
		case "/out", "/backchannel":
			_ = r.ParseForm()
			a.mu.Lock()
			a.notified = append(a.notified, r.URL.Path+" "+r.Form.Encode())
			a.mu.Unlock()
			if r.Referer() != "" {
				t.Errorf("AC-15: the application gets the Referer %s", r.Referer())
			}
		case "/slow":
			select {
			case <-a.slow:
			case <-r.Context().Done():
			}
		case "/check":
			rw.Write([]byte(strings.NewReplacer("OP", check, "MESSAGE", html.EscapeString(r.URL.Query().Get("message"))).Replace(`<!DOCTYPE html><title>Check</title>
<iframe id=op src="OP"></iframe><p id=message>MESSAGE</p><script>
addEventListener("message", (e) => { const p = document.createElement("p"); p.id = "answer"; p.textContent = e.data; document.body.append(p); });
document.getElementById("op").onload = (e) => e.target.contentWindow.postMessage(document.getElementById("message").textContent, new URL("OP").origin);
</script>`)))
			return
		}
		rw.Write([]byte("<!DOCTYPE html><title>Back</title><p id=back>Welcome back"))
	}))
	t.Cleanup(a.Close)
	t.Cleanup(func() { close(a.slow) })
	return a
}

func (a *application) notifications() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	notified := a.notified
	a.notified = nil
	return notified
}

// TestLogoutInChromium: an application queries the session frame, the user signs out, the other
// applications are notified, and the browser returns, with and without scripts.
func TestLogoutInChromium(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	ctx := chromium.Start(t, 5*time.Minute)
	w := newWorld(t)
	w.addAlice()
	app := newApplication(t, w.url+"/check-session")
	client := func(id, name, frontchannel string) record.Client {
		return record.Client{ID: id, ClientMetadata: oauth.ClientMetadata{
			ClientName: name, RedirectURIs: []string{app.URL + "/callback"}, PostLogoutRedirectURIs: []string{app.URL + "/bye"},
			TokenEndpointAuthMethod: "none", Scope: "openid", FrontchannelLogoutURI: frontchannel,
			GrantTypes: []string{"implicit"}, ResponseTypes: []string{"id_token"},
		}, ClientSettings: record.ClientSettings{SkipConsent: true}}
	}
	w.declare(declaration.Declaration{Clients: []record.Client{
		client("printer", "Photo Printer", app.URL+"/out"), client("hanging", "Hanging Gardens", app.URL+"/slow"), client("wiki", "Old Wiki", ""),
	}})
	authorize := func(id string) string {
		return w.url + "/authorize?" + url.Values{
			"client_id": {id}, "redirect_uri": {app.URL + "/callback"}, "scope": {"openid"}, "response_type": {"id_token"}, "nonce": {"n"},
		}.Encode()
	}
	leave := w.url + "/logout?" + url.Values{"client_id": {"printer"}, "post_logout_redirect_uri": {app.URL + "/bye"}, "state": {"s"}}.Encode()

	for _, scripts := range []bool{true, false} {
		do := func(actions ...chromedp.Action[chromedp.Void]) {
			t.Helper()
			if err := chromedp.Do(ctx, actions...); err != nil {
				t.Fatalf("scripts %v: %v: %s", scripts, err, chromium.WhereIs(ctx))
			}
		}
		back := func() url.Values {
			t.Helper()
			do(chromedp.WaitVisible(chromedp.CSS("#back")))
			where, err := chromedp.Run(ctx, chromedp.Location())
			if err != nil {
				t.Fatal(err)
			}
			u, err := url.Parse(where)
			if err != nil {
				t.Fatal(err)
			}
			values, err := url.ParseQuery(u.RawQuery + u.Fragment)
			if err != nil {
				t.Fatal(err)
			}
			return values
		}
		check := func(message, want string) {
			t.Helper()
			if !scripts {
				return
			}
			do(chromedp.Navigate(app.URL+"/check?message="+url.QueryEscape(message)), chromedp.WaitVisible(chromedp.CSS("#answer")))
			got, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.getElementById("answer").textContent`))
			if err != nil || got != want {
				t.Errorf("the frame responds with %q to %q, want %q (%v)", got, message, want, err)
			}
		}

		do(chromium.Scripts(scripts), chromedp.Navigate(authorize("printer")),
			chromedp.SendKeys(chromedp.CSS("#identifier"), "alice"), chromedp.SendKeys(chromedp.CSS("#password"), password),
			chromedp.Click(chromedp.CSS("main .primary")))
		state := back().Get("session_state")
		do(chromedp.Navigate(authorize("hanging")))
		back()
		do(chromedp.Navigate(authorize("wiki")))
		back()
		check("printer "+state, "unchanged")
		check("wiki "+state, "changed") // another client's
		check("printer", "error")
		check("printer "+strings.ToUpper(state), "error")

		do(chromedp.Navigate(leave), chromedp.WaitVisible(chromedp.CSS("#applications")))
		text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.querySelector("main").innerText`))
		if scripts && err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"Photo Printer", "Hanging Gardens", "You may stay signed in to Old Wiki for a while"} {
			if scripts && !strings.Contains(text, name) {
				t.Errorf("the sign-out page does not contain %q:\n%s", name, text)
			}
		}
		began := time.Now()
		do(chromedp.Click(chromedp.CSS("main button.primary")))
		if !scripts {
			do(chromedp.WaitVisible(chromedp.CSS("a[data-continue]")), chromedp.Click(chromedp.CSS("a[data-continue]")))
		}
		if got := back(); got.Get("state") != "s" {
			t.Errorf("scripts %v: returned with %v", scripts, got)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("SE-10: an application that hangs delays the browser by %s", took)
		}
		notified := app.notifications()
		if len(notified) != 1 || !strings.HasPrefix(notified[0], "/out iss="+url.QueryEscape(w.url)+"&sid=") {
			t.Errorf("SE-12: scripts %v: the application was notified of %q", scripts, notified)
		}
		check("printer "+state, "changed")
	}
}

// However the user signs out on these pages, the applications of the session are notified.
func TestSE10_PagesNotifyApplications(t *testing.T) {
	for name, leave := range map[string]func(w *world, b *browserClient){
		"sign-out": func(_ *world, b *browserClient) { b.post("/sign-out", url.Values{}).redirected(b.t) },
		"sign-out everywhere": func(_ *world, b *browserClient) {
			b.post("/account/sessions/end-all", url.Values{}).redirected(b.t)
		},
		"another browser ends it": func(w *world, b *browserClient) {
			other := w.newBrowser()
			other.signIn("alice", password).redirected(b.t)
			sessions, err := w.accounts.Sessions(b.t.Context(), time.Now(), "a")
			if err != nil || len(sessions) != 2 {
				b.t.Fatalf("%d sessions, %v", len(sessions), err)
			}
			other.post("/account/sessions/end", url.Values{"session": {sessions[1].ID}}).redirected(b.t) // the older one
		},
		"another password": func(w *world, _ *browserClient) {
			other := w.newBrowser()
			other.signIn("alice", password).redirected(w.t)
			other.post("/account/password", url.Values{"current": {password}, "new": {"command module 12"}, "end-others": {"on"}}).redirected(w.t)
		},
		"somebody else signs in": func(w *world, b *browserClient) {
			w.addUser(identity.User{ID: "b", Username: "bob", PasswordHash: passwordHash()})
			b.signIn("bob", password).redirected(b.t)
		},
		"disabled": func(w *world, _ *browserClient) {
			w.updateUser("a", func(alice *identity.User) { alice.Disabled = true })
		},
		"deleted": func(w *world, _ *browserClient) {
			if err := w.store.DeleteUser(w.t.Context(), "a"); err != nil {
				w.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := newApplication(t, "")
			w := newWorldOn(t, func(c *authserver.Config) {
				c.Outgoing.Networks = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
			})
			w.addAlice()
			w.declare(declaration.Declaration{Clients: []record.Client{{ID: "printer", ClientMetadata: oauth.ClientMetadata{
				RedirectURIs: []string{w.callback}, TokenEndpointAuthMethod: "none", Scope: "openid", BackchannelLogoutURI: app.URL + "/backchannel",
			}, ClientSettings: record.ClientSettings{SkipConsent: true}}}})
			b := w.newBrowser()
			b.signIn("alice", password).redirected(t)
			b.get(w.authorizeURL(url.Values{"scope": {"openid"}})).redirected(t)
			deliver := func() []string {
				if err := w.engine.DeliverLogouts(t.Context()); err != nil {
					t.Fatal(err)
				}
				return app.notifications()
			}
			if notified := deliver(); len(notified) != 0 {
				t.Errorf("notified while the session is active: %q", notified)
			}
			leave(w, b)
			select {
			case <-w.engine.LogoutsDue():
			default:
				if name != "somebody else signs in" && name != "disabled" && name != "deleted" {
					t.Error("the engine does not know that it is time to tell them")
				}
			}
			if notified := deliver(); len(notified) != 1 || !strings.HasPrefix(notified[0], "/backchannel logout_token=ey") {
				t.Errorf("notified of %q", notified)
			}
		})
	}
}

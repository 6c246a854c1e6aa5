package browser

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/security"
	"github.com/chromedp/chromedp"

	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/demo"
	"github.com/valetkey/valetkey/internal/chromium"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

// anyCertificate makes the browser accept the certificate of a test server.
func anyCertificate() chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, security.SetIgnoreCertificateErrors, security.SetIgnoreCertificateErrorsParams{Ignore: true})
		return err
	})
}

// The relying party depends on the browser: to read a fragment, to send cookies with a form that a
// page of another site posts, and to sign out with a form.
func TestRelyingPartyInChromium(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	ctx := chromium.Start(t, 3*time.Minute)
	for _, test := range []struct{ responseType, responseMode string }{
		{"code", ""}, {"code", "form_post"}, {"id_token token", ""}, {"code id_token", "form_post"}, {"code id_token token", ""},
	} {
		t.Run(test.responseType+" "+test.responseMode, func(t *testing.T) {
			app := httptest.NewUnstartedServer(nil)
			// https makes it another site than the server's, with cookies as in production.
			base := "https://" + app.Listener.Addr().String()
			s := authservertest.NewServer(t, authservertest.Config{Declarations: configuration.Declarations{
				Users: []configuration.User{{Username: demo.Username, Password: demo.Password, Name: "Ada Lovelace"}},
				Clients: []configuration.Client{{ID: "app", Secret: "a-secret-of-more-than-32-characters", ClientMetadata: oauth.ClientMetadata{
					RedirectURIs: []string{base + "/auth/callback"}, PostLogoutRedirectURIs: []string{base + "/auth/signed-out"},
					GrantTypes:    []string{oauth.GrantTypeAuthorizationCode, "implicit"},
					ResponseTypes: oauth.ResponseTypes(), Scope: "openid profile",
				}}},
			}})
			c, err := client.Discover(t.Context(), client.Config{
				Issuer: s.Issuer, ClientID: "app", ClientSecret: "a-secret-of-more-than-32-characters", RedirectURI: base + "/auth/callback",
				ResponseType: test.responseType, Scopes: []string{"openid", "profile"},
			})
			if err != nil {
				t.Fatal(err)
			}
			party, err := client.NewRelyingParty(client.RelyingPartyConfig{
				Client: c, Authorization: client.AuthorizationOptions{ResponseMode: test.responseMode}, Home: "/home",
			})
			if err != nil {
				t.Fatal(err)
			}
			mux := http.NewServeMux()
			mux.Handle("/auth/", party)
			mux.Handle("/private", party.Require(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprint(w, `<!doctype html><p id="who">signed in</p><form method="post" action="/auth/sign-out"><button>Sign out</button></form>`)
			})))
			mux.Handle("/home", party.Load(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintf(w, `<!doctype html><p id="home">signed out: %v</p>`, client.SessionFrom(r.Context()) == nil)
			})))
			app.Config.Handler = mux
			app.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0) // the browser rejects each test's certificate at first
			app.StartTLS()
			t.Cleanup(app.Close)

			v := &visit{T: t, ctx: ctx, folder: filepath.Join(artifacts, "relyingparty")}
			v.do("begin", forgetCookies(), anyCertificate())
			v.do("visit", chromedp.Navigate(base+"/private?x=1"))
			v.signIn()
			v.allow()
			v.do("return to the application", chromedp.WaitVisible(chromedp.CSS("#who")))
			if got := v.text("#who"); got != "signed in" {
				t.Errorf("the page contains %q", got)
			}
			at, err := chromedp.Run(v.ctx, chromedp.Location())
			if err != nil || at != base+"/private?x=1" {
				t.Errorf("the browser is at %s (%v)", at, err)
			}
			v.do("sign out", chromedp.Click(chromedp.CSS("button")))
			v.shows("signed out", "#home", "signed out: true")
		})
	}
}

package browser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"

	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"

	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/demo"
	"github.com/valetkey/valetkey/oauth"
)

// popupOpener signs in like Swagger UI, Vault and oidc-client-ts: in a popup, which must still
// have its opener when it reaches the callback.
const popupOpener = `<!DOCTYPE html><title>Application</title><button id="go">Sign in</button><p id="result">nothing yet</p>
<script>
const result = document.querySelector("#result")
document.querySelector("#go").onclick = () => {
  const popup = window.open(%q, "sign-in", "width=500,height=700")
  const watch = setInterval(() => { if (popup.closed) { clearInterval(watch); result.dataset.closed = "yes" } }, 50)
}
addEventListener("message", e => { if (e.origin === location.origin) { result.textContent = e.data; e.source.close() } })
</script>`

// popupCallback is the application's page that the popup returns to.
const popupCallback = `<!DOCTYPE html><title>Back</title><p id="back">back</p>
<script>if (opener) opener.postMessage(%q, location.origin); else document.querySelector("#back").textContent = "no opener"</script>`

func signInInAPopup(v *visit) {
	for _, mode := range []string{"query", "form_post"} {
		// The host differs from the server's, so that the browser treats it as another site.
		application := httptest.NewUnstartedServer(nil)
		origin := "http://localhost" + application.Listener.Addr().String()[len("127.0.0.1"):]
		s := authservertest.NewServer(v.T, authservertest.Config{Declarations: configuration.Declarations{
			Clients: []configuration.Client{{ID: "swagger", Secret: "0123456789abcdef0123456789abcdef", ClientMetadata: oauth.ClientMetadata{
				ClientName: "API documentation", RedirectURIs: []string{origin + "/callback"}, Scope: "openid profile",
			}}},
			Users: []configuration.User{{Username: demo.Username, Password: demo.Password, Name: "Ada Lovelace"}},
		}})
		request := s.Issuer + "/authorize?" + url.Values{
			"client_id": {"swagger"}, "response_type": {"code"}, "response_mode": {mode}, "redirect_uri": {origin + "/callback"}, "scope": {"openid profile"},
			"state": {mode}, "code_challenge": {oauth.S256Challenge(oauth.NewCodeVerifier())}, "code_challenge_method": {"S256"},
		}.Encode()
		application.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			if r.URL.Path == "/callback" {
				fmt.Fprintf(w, popupCallback, fmt.Sprintf("state %s, code %v", r.FormValue("state"), r.FormValue("code") != ""))
				return
			}
			fmt.Fprintf(w, popupOpener, request)
		})
		application.Start()
		v.Cleanup(application.Close)

		v.do("open the application", chromedp.Navigate(origin+"/"))
		opened := chromedp.WaitNewTarget(v.ctx, func(i *target.Info) bool { return i.OpenerID != "" || i.OpenerFrameID != "" })
		v.do("start the sign-in", chromedp.Click(chromedp.CSS("#go")))
		popup := v.window(<-opened)
		popup.signIn()
		popup.allow()
		want := "state " + mode + ", code true"
		v.eventually("#result", want)
		v.do("wait for the popup to close", chromedp.WaitVisible(chromedp.CSS("#result[data-closed]")))
	}
}

// window attaches to a window that a page has opened.
func (v *visit) window(id target.ID) *visit {
	v.Helper()
	if id == "" {
		v.Fatal("no window was opened")
	}
	ctx, cancel := chromedp.NewContext(v.ctx, chromedp.WithTargetID(id))
	v.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		v.Fatalf("attach to a window: %v", err)
	}
	return &visit{v.T, ctx, v.folder}
}

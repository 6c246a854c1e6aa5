package interop

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"

	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/chromium"
	"github.com/valetkey/valetkey/oauth"
)

// signedIn is what a single-page application shows when the user has signed in.
type signedIn struct {
	Subject   string `json:"subject"`
	Name      string `json:"name"`
	Email     string `json:"email"`
	Refreshed bool   `json:"refreshed"`
	Error     string `json:"error"`
}

// TestPopupsOfBrowserLibraries signs in with libraries for single-page applications, in a popup.
// oidc-client-ts needs the popup's opener; MSAL.js adds a query parameter to the token endpoint's
// URL, from another origin.
func TestPopupsOfBrowserLibraries(t *testing.T) {
	dir := installNode(t, "browser")
	// MSAL.js accepts only https, and each test has a different certificate.
	ctx := chromium.Start(t, 3*time.Minute, chromedp.Flag("ignore-certificate-errors", true))
	application := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(application.Close)
	for page, refreshed := range map[string]bool{"oidc-client-ts": false, "msal-browser": true} {
		t.Run(page, func(t *testing.T) {
			server := authservertest.NewServer(t, authservertest.Config{HTTPS: true, Declarations: configuration.Declarations{
				Clients: []configuration.Client{{ID: "single-page", ClientMetadata: oauth.ClientMetadata{
					TokenEndpointAuthMethod: oauth.AuthMethodNone, RedirectURIs: []string{application.URL + "/" + page + "-callback.html"},
					GrantTypes: []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken},
					Scope:      "openid profile email offline_access",
				}}},
				Users: []configuration.User{{
					Username: "alice", Password: "correct horse battery", Name: "Alice Example", Email: "alice@example.com",
				}},
			}})
			opened := chromedp.WaitNewTarget(ctx, func(i *target.Info) bool { return i.OpenerID != "" })
			act(t, ctx, "open the application", chromedp.Navigate(application.URL+"/"+page+".html?issuer="+url.QueryEscape(server.Issuer)))
			act(t, ctx, "press the button", chromedp.Click(chromedp.CSS("#go")))
			signInAtPopup(t, ctx, opened)

			act(t, ctx, "return to the application", chromedp.WaitVisible(chromedp.CSS("#result")))
			text, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("#result")))
			if err != nil {
				t.Fatal(err)
			}
			var got signedIn
			if err := json.Unmarshal([]byte(text), &got); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			if got.Error == "" && got.Subject == "" {
				t.Error("the ID token has no subject")
			}
			want := signedIn{Subject: got.Subject, Name: "Alice Example", Email: "alice@example.com", Refreshed: refreshed}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the application shows (-want +got):\n%s", diff)
			}
		})
	}
}

// signInAtPopup acts as the user in the window that an application opened.
func signInAtPopup(t *testing.T, ctx context.Context, opened <-chan target.ID) {
	t.Helper()
	select {
	case id := <-opened:
		waitUntilLoaded(t, ctx, id)
		popup, cancel := chromedp.NewContext(ctx, chromedp.WithTargetID(id))
		t.Cleanup(cancel)
		if err := chromedp.Do(popup); err != nil { // it stays attached until the context of the first call ends
			t.Fatal(err)
		}
		act(t, popup, "sign in",
			chromedp.WaitVisible(chromedp.CSS("#identifier")),
			chromedp.SendKeys(chromedp.CSS("#identifier"), "alice"),
			chromedp.SendKeys(chromedp.CSS("#password"), "correct horse battery"),
			chromedp.Click(chromedp.CSS("main .primary")))
		act(t, popup, "allow", chromedp.WaitVisible(chromedp.CSS("button[value=allow]")), chromedp.Click(chromedp.CSS("button[value=allow]")))
	case <-time.After(time.Minute):
		t.Fatal("no window opened")
	}
}

// waitUntilLoaded waits until a window shows the sign-in page. chromedp has a race if it attaches to a window
// that is still loading.
func waitUntilLoaded(t *testing.T, ctx context.Context, id target.ID) {
	t.Helper()
	often := time.NewTicker(20 * time.Millisecond)
	defer often.Stop()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-often.C {
		windows, err := chromedp.Targets(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range windows {
			if w.TargetID == id && strings.HasPrefix(w.Title, "Sign in") {
				return
			}
		}
	}
	t.Fatal("the window shows no sign-in page")
}

func act(t *testing.T, ctx context.Context, what string, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	within, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := chromedp.Do(within, actions...); err != nil {
		t.Fatalf("%s: %v\n%s", what, err, chromium.WhereIs(ctx))
	}
}

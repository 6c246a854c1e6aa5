package ui

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/chromium"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/record"
)

// approvalWorld has a client that asks users for approval.
func approvalWorld(t *testing.T, change ...func(*record.Client)) *world {
	w := newWorld(t)
	w.addAlice()
	w.addUser(identity.User{ID: "b", Username: "bob", PasswordHash: passwordHash()})
	bank := record.Client{
		ID: "bank", Secrets: []string{"secret-secret-secret-secret-secret-1"},
		ClientMetadata: oauth.ClientMetadata{
			ClientName: "Corner Bank", GrantTypes: []string{oauth.GrantTypeCIBA}, BackchannelTokenDeliveryMode: oauth.DeliveryPoll, Scope: "openid photos.read",
		},
	}
	for _, f := range change {
		f(&bank)
	}
	if err := w.store.Declare(t.Context(), time.Now(), "bank", declaration.Declaration{Clients: []record.Client{bank}}); err != nil {
		t.Fatal(err)
	}
	return w
}

// send sends a form as the bank.
func (w *world) send(path string, form url.Values) (status int, members map[string]any) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth("bank", "secret-secret-secret-secret-secret-1")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&members); err != nil {
		w.t.Fatal(err)
	}
	return response.StatusCode, members
}

// ask sends a request for alice, and returns a function that polls.
func (w *world) ask(message string) (poll func() any) {
	w.t.Helper()
	status, members := w.send("/backchannel_authentication", url.Values{"scope": {"openid photos.read"}, "login_hint": {"alice"}, "binding_message": {message}})
	if status != http.StatusOK {
		w.t.Fatalf("%d %v", status, members)
	}
	return func() any {
		status, answer := w.send("/token", url.Values{"grant_type": {oauth.GrantTypeCIBA}, "auth_req_id": {members["auth_req_id"].(string)}})
		if status == http.StatusOK {
			return "tokens"
		}
		return answer["error"]
	}
}

var reviewLink = regexp.MustCompile(`href="(/approve\?request=[\w-]+)"`)

func TestCB02_ApprovalPageShowsTheBindingMessage(t *testing.T) {
	w := approvalWorld(t)
	poll := w.ask("<W4SCT>")
	alice, bob := w.newBrowser(), w.newBrowser()
	alice.signIn("alice", password).redirected(t)
	bob.signIn("bob", password).redirected(t)
	bob.get("/account").want(t, 200, "bob")
	if page := bob.get("/account"); strings.Contains(page.body, "Corner Bank") {
		t.Error("bob sees alice's request")
	}
	account := alice.get("/account")
	account.want(t, 200, "Waiting for your approval", "Corner Bank", "&lt;W4SCT&gt;", "See your photos")
	link := reviewLink.FindStringSubmatch(account.body)[1]

	// Bob follows the link: he would have to sign in as alice, and cannot decide.
	if to := bob.get(link).redirected(t); !strings.HasPrefix(to, "/sign-in?") {
		t.Errorf("bob gets to %s", to)
	}
	id := strings.TrimPrefix(link, "/approve?request=")
	bob.get(bob.post("/approve", url.Values{"request": {id}}).redirected(t)).want(t, 200, "expired or has already been answered")
	if got := poll(); got != "authorization_pending" {
		t.Errorf("after bob tried: %v", got)
	}

	// A form on another site cannot decide.
	r := alice.request(http.MethodPost, "/approve", url.Values{"request": {id}})
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	r.Header.Set("Origin", "https://evil.example")
	if response := alice.do(r); response.StatusCode != http.StatusForbidden {
		t.Errorf("a form of another site gets %d", response.StatusCode)
	}

	consent := alice.get(alice.get(link).redirected(t))
	consent.want(t, 200, "Corner Bank", "&lt;W4SCT&gt;", "Allow this only if you just asked")
	alice.get("/account").want(t, 200, "Waiting for your approval")
	// Deny from the list.
	alice.get(alice.post("/approve", url.Values{"request": {id}}).redirected(t)).want(t, 200, "Request denied")
	if got := poll(); got != "access_denied" {
		t.Errorf("after the denial: %v", got)
	}
	alice.get(link).want(t, http.StatusNotFound, "Nothing to approve")
	alice.get("/approve").redirectedTo(t, "/account")
	alice.get("/approve?request=x").want(t, http.StatusNotFound, "Nothing to approve")
}

// In a browser, with and without scripts: the link, sign-in, and the approval.
func TestApprovalInChromium(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	ctx := chromium.Start(t, 5*time.Minute)
	w := approvalWorld(t)
	for _, scripts := range []bool{true, false} {
		for answer, want := range map[string]string{"allow": "tokens", "deny": "access_denied"} {
			poll := w.ask("W4SCT")
			reader := w.newBrowser()
			reader.signIn("alice", password).redirected(t)
			link := reviewLink.FindStringSubmatch(reader.get("/account").body)[1]
			err := chromedp.Do(ctx,
				chromium.Scripts(scripts),
				chromedp.Navigate(w.url+"/sign-out"),
				chromedp.Navigate(w.url+link),
			)
			if err != nil {
				t.Fatal(err)
			}
			// The browser stays signed in after the first round.
			if where, err := chromedp.Run(ctx, chromedp.Location()); err != nil {
				t.Fatal(err)
			} else if strings.Contains(where, "/sign-in") {
				err := chromedp.Do(ctx, chromedp.SendKeys(chromedp.CSS("#password"), password), chromedp.SendKeys(chromedp.CSS("#identifier"), "alice"), chromedp.Click(chromedp.CSS("main .primary")))
				if err != nil {
					t.Fatal(err)
				}
			}
			if err := chromedp.Do(ctx, chromedp.WaitVisible(chromedp.CSS(".binding")), chromedp.Click(chromedp.CSS("button[value="+answer+"]")), chromedp.WaitVisible(chromedp.CSS("[role=status]"))); err != nil {
				t.Fatalf("scripts %v, %s: %v: %s", scripts, answer, err, chromium.WhereIs(ctx))
			}
			if got := poll(); got != want {
				t.Errorf("scripts %v, %s: the client gets %v", scripts, answer, got)
			}
		}
	}
}

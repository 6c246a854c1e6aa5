package ui

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/chromium"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/record"
)

// newWorldWithApplications returns a world with Alice and Bob, and two clients to which a browser can
// return: printer and album.
func newWorldWithApplications(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.addAlice()
	w.addUser(identity.User{ID: "b", Username: "bob", PasswordHash: passwordHash()})
	application := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(rw, "<!DOCTYPE html><title>Application</title><p>Back with %s", r.URL.Query().Get("state"))
	}))
	t.Cleanup(application.Close)
	w.callback = application.URL + "/callback"
	client := func(id, name string) record.Client {
		return record.Client{ID: id, ClientMetadata: oauth.ClientMetadata{
			ClientName: name, RedirectURIs: []string{w.callback}, TokenEndpointAuthMethod: "none", InitiateLoginURI: "https://printer.example.com/start",
			GrantTypes: []string{"authorization_code", "refresh_token"}, Scope: "openid email photos.read photos.write offline_access",
		}}
	}
	w.declare(declaration.Declaration{Clients: []record.Client{client("printer", "Photo Printer"), client("album", "Photo Album")}})
	return w
}

// from begins an authorization request of a client in a tab.
func (w *world) from(b *chromium.Tab, client, state string, more ...string) {
	w.t.Helper()
	b.Visit(w.url + w.authorizeURL(with(url.Values{"client_id": {client}, "state": {state}}, more...)))
}

var signInAsAlice = []string{"#identifier", "alice", "#password", password}

const allow = "button[value=allow]"

// Two applications send a browser to the sign-in page, in a tab each. Both go on, whichever is first.
func TestSE15_TwoTabsInChromium(t *testing.T) {
	chromium.WithAndWithoutScripts(t, func(t *testing.T, open func() *chromium.Tab) {
		w := newWorldWithApplications(t)
		one := open()
		w.from(one, "printer", "one")
		one.Has("#identifier")
		two := one.Another()
		w.from(two, "album", "two")
		two.Submit(signInAsAlice...)
		two.Shows("Photo Album wants access")
		one.Submit(signInAsAlice...) // the page is from before the other tab's sign-in
		one.Shows("Photo Printer wants access")
		two.Press(allow)
		two.Shows("Back with two")
		// The same page in two tabs: it is answered once.
		again := one.Another()
		again.Visit(one.Address())
		again.Has(allow)
		one.Press(allow)
		one.Shows("Back with one")
		again.Press(allow)
		again.Shows("This page has expired")
	})
}

// What is pressed on a page from before the user signed out, or another one signed in, does nothing for
// whoever is signed in now.
func TestSE13_StalePagesInChromium(t *testing.T) {
	chromium.WithAndWithoutScripts(t, func(t *testing.T, open func() *chromium.Tab) {
		w := newWorldWithApplications(t)
		consent := open()
		w.from(consent, "printer", "one")
		consent.Submit(signInAsAlice...)
		consent.Has(allow)
		account := consent.Another()
		account.Visit(w.url + "/account")
		account.Has("#methods")

		// Signed out in another tab.
		other := consent.Another()
		other.Visit(w.url + "/account")
		other.Press("header button")
		other.Has("a[href='/sign-in']")
		consent.Press(allow)
		consent.Has("#identifier")
		account.Press("a[href='/account/password']")
		account.Has("#identifier")
		if grants, err := w.store.GrantsOf(t.Context(), "a"); err != nil || len(grants) != 0 {
			t.Errorf("a page from before the sign-out created the grants %v (%v)", grants, err)
		}

		// Signed in again: the application still gets its user.
		consent.Submit(signInAsAlice...)
		consent.Has(allow)

		// Another user.
		other.Visit(w.url + "/account")
		other.Press("header button")
		other.Press("a[href='/sign-in']")
		other.Submit("#identifier", "bob", "#password", password)
		other.Has("#methods")
		consent.Press(allow)
		consent.Shows("bob")
		for _, user := range []string{"a", "b"} {
			if grants, err := w.store.GrantsOf(t.Context(), user); err != nil || len(grants) != 0 {
				t.Errorf("the page of alice, submitted while bob is signed in, created the grants %v of %s (%v)", grants, user, err)
			}
		}
		consent.Press(allow)
		consent.Shows("Back with one")
	})
}

// The button of the browser that leads back shows no page that no longer applies, and nothing of a user
// who has signed out.
func TestBackButtonInChromium(t *testing.T) {
	chromium.WithAndWithoutScripts(t, func(t *testing.T, open func() *chromium.Tab) {
		w := newWorldWithApplications(t)
		b := open()
		w.from(b, "printer", "one")
		b.Submit(signInAsAlice...)
		b.Has(allow)
		b.Back()
		b.Shows("Continue with your current account")
		if typed := b.Evaluate(`document.querySelector("#password").value`); typed != "" {
			t.Errorf("the sign-in page keeps the password: %q", typed)
		}
		b.Press("a[href^='/authorize/continue']")
		b.Press(allow)
		b.Shows("Back with one")
		b.Back()
		b.Shows("This page has expired")
		b.Shows("Go to Photo Printer")

		b.Visit(w.url + "/account")
		b.Shows("Alice Liddell")
		b.Press("header button")
		b.Has("a[href='/sign-in']")
		b.Back()
		b.Has("#identifier")
		if text := b.Evaluate(`document.body.innerText`); strings.Contains(text, "Alice") {
			t.Errorf("after the sign-out, the page before shows\n%s", text)
		}
	})
}

// Revoking access on the account page ends the tokens of the application at once.
func TestRevocationInChromium(t *testing.T) {
	chromium.WithAndWithoutScripts(t, func(t *testing.T, open func() *chromium.Tab) {
		w := newWorldWithApplications(t)
		b := open()
		w.from(b, "printer", "one", "scope", "openid offline_access", "prompt", "consent")
		b.Submit(signInAsAlice...)
		b.Press(allow)
		b.Shows("Back with")
		back, err := url.Parse(b.Address())
		if err != nil {
			t.Fatal(err)
		}
		app := w.newBrowser()
		answer := app.post("/token", url.Values{
			"grant_type": {"authorization_code"}, "client_id": {"printer"}, "redirect_uri": {w.callback},
			"code": {back.Query().Get("code")}, "code_verifier": {"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"},
		})
		answer.want(t, http.StatusOK)
		var tokens struct {
			Access  string `json:"access_token"`
			Refresh string `json:"refresh_token"`
		}
		if err := json.Unmarshal([]byte(answer.body), &tokens); err != nil || tokens.Refresh == "" {
			t.Fatalf("%v: %s", err, answer.body)
		}
		userInfo := func() response {
			r := app.request("GET", "/userinfo", nil)
			r.Header.Set("Authorization", "Bearer "+tokens.Access)
			return app.do(r)
		}
		userInfo().want(t, http.StatusOK)

		b.Visit(w.url + "/account")
		b.Press("form[action='/account/applications/revoke'] button")
		b.Shows("Access revoked")
		userInfo().want(t, http.StatusUnauthorized)
		app.post("/token", url.Values{"grant_type": {"refresh_token"}, "client_id": {"printer"}, "refresh_token": {tokens.Refresh}}).want(t, http.StatusBadRequest, "invalid_grant")
		w.from(b, "printer", "two")
		b.Has(allow) // the consent ended too
	})
}

// The three methods of the signal API get what the server knows: which passkeys exist, what the user is
// called, and which passkey is unknown.
func TestPasskeySignalsInChromium(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	t.Parallel()
	b := chromium.NewTab(t, 3*time.Minute, true)
	ctx := b.Context
	w := newPasskeyWorld(t, nil)
	w.addAlice()
	device := newAuthenticator(t, ctx, true)
	b.Do(chromium.OnNewDocument(`for (const name of ["signalUnknownCredential", "signalAllAcceptedCredentials", "signalCurrentUserDetails"]) {
		const original = PublicKeyCredential[name].bind(PublicKeyCredential);
		PublicKeyCredential[name] = (options) => { sessionStorage.setItem(name, JSON.stringify(options)); return original(options); };
	}`))
	signaled := func(name string) (options struct {
		RPID         string   `json:"rpId"`
		UserID       string   `json:"userId"`
		CredentialID string   `json:"credentialId"`
		Accepted     []string `json:"allAcceptedCredentialIds"`
		Name         string   `json:"name"`
		DisplayName  string   `json:"displayName"`
	}) {
		t.Helper()
		said := b.Evaluate(fmt.Sprintf(`sessionStorage.getItem(%q) || "null"; `, name))
		b.Evaluate(fmt.Sprintf(`sessionStorage.removeItem(%q); ""`, name))
		if err := json.Unmarshal([]byte(said), &options); err != nil || said == "null" {
			t.Fatalf("%s was called with %s (%v)", name, said, err)
		}
		return options
	}
	w.signInWithPassword(ctx)
	b.Visit(w.url + passkeysPath)
	b.Press(addButton)
	b.Has(".passkey-row")
	created := w.alicesPasskeys()[0]
	b.Visit(w.url + "/account")
	const handle = "YQ" // the user "a"
	if o := signaled("signalAllAcceptedCredentials"); o.RPID != "localhost" || o.UserID != handle || len(o.Accepted) != 1 || o.Accepted[0] == "" {
		t.Errorf("the accepted passkeys are %+v", o)
	}
	if o := signaled("signalCurrentUserDetails"); o.RPID != "localhost" || o.UserID != handle || o.Name != "alice" || o.DisplayName != "Alice Liddell" {
		t.Errorf("the details of the user are %+v", o)
	}
	// Removed elsewhere, and then used: it is unknown, and the authenticator forgets it.
	w.signOut(ctx)
	user, err := w.store.User(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.accounts.RemovePasskey(t.Context(), time.Now(), user, created.ID, identity.Activity{}); err != nil {
		t.Fatal(err)
	}
	b.Visit(w.url + "/sign-in") // by autofill
	b.Has("#alert")
	device.eventually("the passkey is forgotten", func() bool { return len(device.forgotten()) == 1 })
	if o := signaled("signalUnknownCredential"); o.RPID != "localhost" || o.CredentialID == "" {
		t.Errorf("the unknown passkey is %+v", o)
	}
}

package ui

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage/record"
)

func TestUserCodeIsOfferedOnlyIfItIsUsed(t *testing.T) {
	alice := approvalWorld(t).newBrowser()
	alice.signIn("alice", password).redirected(t)
	if page := alice.get("/account"); strings.Contains(page.body, "/account/user-code") {
		t.Error("the account page offers a code that no application uses")
	}
}

// A user sets a code on the account page. From then on, a client that is registered for user codes can
// send requests only with it, however it is written, until the user removes it.
func TestUserCode(t *testing.T) {
	w := approvalWorld(t, func(c *record.Client) { c.BackchannelUserCodeParameter = true })
	alice := w.newBrowser()
	alice.get("/account/user-code").redirectedTo(t, "/sign-in")
	alice.signIn("alice", password).redirected(t)
	alice.get("/account").want(t, 200, "Set a code")
	ask := func(code string) any {
		t.Helper()
		status, members := w.send("/backchannel_authentication", url.Values{"scope": {"openid"}, "login_hint": {"alice"}, "user_code": {code}})
		if status == http.StatusOK {
			return status
		}
		return members["error"]
	}
	if got := ask(""); got != http.StatusOK {
		t.Errorf("before alice has a code: %v", got)
	}
	set := func(code string) response { return alice.post("/account/user-code", url.Values{"code": {code}}) }
	alice.get("/account/user-code").want(t, 200, "Code for approval requests")
	set("").want(t, 400, "Enter a code")
	set("4711").want(t, 400, "Use 6 to 64")
	set("123456").want(t, 400, "easy to guess")
	set("98 76-54").want(t, 400, "easy to guess")
	set("111111").want(t, 400, "easy to guess")
	set("qwertyuiop").want(t, 400, "easy to guess")
	set("tulip\x00\x014711").want(t, 400, "invalid characters")
	set(password).want(t, 400, "must not be your password")
	if got := ask(""); got != http.StatusOK {
		t.Errorf("after codes that were refused: %v", got)
	}
	alice.get(set("Tulip 4711").redirected(t)).want(t, 200, "Your code has been saved", "Change code")
	for code, want := range map[string]any{"": "missing_user_code", "tulip 4712": "invalid_user_code", "tulip-4711": http.StatusOK, "TULIP4711": http.StatusOK} {
		if got := ask(code); got != want {
			t.Errorf("with the code %q: %v, want %v", code, got, want)
		}
	}

	// A form of another site changes nothing.
	r := alice.request(http.MethodPost, "/account/user-code", url.Values{"remove": {"yes"}})
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	r.Header.Set("Origin", "https://evil.example")
	if response := alice.do(r); response.StatusCode != http.StatusForbidden {
		t.Errorf("a form of another site gets %d", response.StatusCode)
	}
	if got := ask(""); got != "missing_user_code" {
		t.Errorf("after these attempts: %v", got)
	}
	alice.get("/account/user-code").want(t, 200, "Remove the code")
	alice.get(alice.post("/account/user-code", url.Values{"remove": {"yes"}}).redirected(t)).want(t, 200, "Your code has been removed", "Set a code")
	if got := ask(""); got != http.StatusOK {
		t.Errorf("after the code was removed: %v", got)
	}
}

// A session whose user has not proved recently who they are neither sets nor removes a code.
func TestUserCodeNeedsARecentProof(t *testing.T) {
	w := newWorld(t)
	alice := w.addAlice()
	secret, _, err := w.accounts.StartSession(t.Context(), time.Now(), alice, identity.SessionDetails{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	thief := w.newBrowser()
	at, err := url.Parse(w.url)
	if err != nil {
		t.Fatal(err)
	}
	recorder := httptest.NewRecorder()
	identity.SetSessionCookie(recorder, w.url, secret)
	thief.client.Jar.SetCookies(at, recorder.Result().Cookies())
	thief.get("/account").want(t, 200, "Alice")
	for _, form := range []url.Values{{"code": {"tulip 4711"}}, {"remove": {"yes"}}} {
		if to := thief.post("/account/user-code", form).redirected(t); !strings.HasPrefix(to, "/account/confirm?") {
			t.Errorf("%v: redirected to %s", form, to)
		}
	}
	if user, err := w.store.User(t.Context(), alice.ID); err != nil || user.UserCodeHash != "" {
		t.Errorf("the code was set, or the user cannot be read: %v", err)
	}
}

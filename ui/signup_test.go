package ui

import (
	"html"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/identity"
)

// Initiating User Registration via OpenID Connect: the application sends the user to create an
// account, and the user returns signed in.
func TestSignUpForAnApplication(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	b := w.newBrowser()
	page := b.get(b.get(b.authorizeURL(url.Values{"prompt": {"create"}})).redirected(t))
	page.want(t, 200, "Create an account", "Photo Printer", "Sign in")
	b.post("/sign-up", with(page.hidden(), "username", "carol", "password", "short")).want(t, 400, "too short", `value="carol"`)
	b.post("/sign-up", with(page.hidden(), "username", "Alice", "password", password)).want(t, 400, "already taken")
	consent := b.get(b.post("/sign-up", with(page.hidden(), "username", "carol", "password", password)).redirected(t))
	consent.want(t, 200, "wants access", "carol")
	carol, err := w.store.UserByIdentifier(t.Context(), "carol")
	if err != nil || carol.Administrator || carol.Email() != "" {
		t.Errorf("the new user is %+v, %v", carol, err)
	}
}

// A user who already has an account can sign in instead.
func TestPromptCreateAllowsSignIn(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	b := w.newBrowser()
	page := b.get(b.get(b.authorizeURL(url.Values{"prompt": {"create"}})).redirected(t))
	signIn := b.get(html.UnescapeString(regexp.MustCompile(`href="(/sign-in[^"]*)"`).FindStringSubmatch(page.body)[1]))
	b.get(b.post("/sign-in", with(signIn.hidden(), "identifier", "alice", "password", password)).redirected(t)).want(t, 200, "wants access")
}

func TestSignUpIsOffByDefault(t *testing.T) {
	w := newWorld(t)
	w.ui.config.SignUp = false
	b := w.newBrowser()
	b.get("/sign-up").want(t, 404)
	b.post("/sign-up", url.Values{"username": {"carol"}, "password": {password}}).want(t, 404)
	if page := b.get("/sign-in"); strings.Contains(page.body, "Create an account") {
		t.Error("the sign-in page leads to an account that cannot be created")
	}
	if _, err := w.store.UserByIdentifier(t.Context(), "carol"); err == nil {
		t.Error("carol was created")
	}
}

func TestSignUpIsThrottled(t *testing.T) {
	w := newWorld(t)
	b := w.newBrowser()
	for range 20 {
		b.post("/sign-up", url.Values{"username": {"carol"}, "password": {"short"}}).want(t, 400)
	}
	b.post("/sign-up", url.Values{"username": {"carol"}, "password": {password}}).want(t, 429, "Too many failed attempts")
}

func TestSelectAccount(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	w.addUser(identity.User{ID: "b", Username: "bob", PasswordHash: passwordHash()})
	b := w.newBrowser()
	b.post("/consent", with(b.toConsent(nil).hidden(), "answer", "allow", "scope", "photos.write", "scope", "email"))

	choose := b.get(b.get(b.authorizeURL(url.Values{"prompt": {"select_account"}})).redirected(t))
	choose.want(t, 200, "Choose an account", "Continue", "Alice")
	stranger := choose.hidden()
	stranger.Set("subject", "b")
	again := b.get(b.post("/select-account", stranger).redirected(t))
	again.want(t, 200, "Choose an account")
	if to := b.post("/select-account", again.hidden()).redirected(t); !strings.HasPrefix(to, w.callback+"?code=") {
		t.Errorf("after the choice, the browser goes to %s", to)
	}

	choose = b.get(b.get(b.authorizeURL(url.Values{"prompt": {"select_account"}})).redirected(t))
	another := b.get(html.UnescapeString(regexp.MustCompile(`href="(/sign-in[^"]*)"`).FindStringSubmatch(choose.body)[1]))
	another.want(t, 200, "Password")
	b.get(b.post("/sign-in", with(another.hidden(), "identifier", "bob", "password", password)).redirected(t)).want(t, 200, "wants access", "bob")

	both := b.get(b.get(b.authorizeURL(url.Values{"prompt": {"login select_account"}})).redirected(t))
	both.want(t, 200, "Password") // the application requires a new sign-in
}

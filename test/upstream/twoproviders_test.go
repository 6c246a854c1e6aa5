package upstream

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/identity/upstream"
	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// twoProviders is a server with the providers corp and partner, at each of which alice and bob have an
// account, and one browser at it. What they do at a provider happens in another browser for each provider:
// browsers send cookies to all ports of a host.
type twoProviders struct {
	t         *testing.T
	issuer    string
	providers map[string]string
	people    map[string]*person.Person // at a provider
	browser   *http.Client
}

func newTwoProviders(t *testing.T) *twoProviders {
	t.Helper()
	ours, issuer := listen(t)
	w := &twoProviders{t: t, issuer: issuer, providers: map[string]string{}, people: map[string]*person.Person{}, browser: visitor(t)}
	var config configuration.Configuration
	for _, id := range []string{"corp", "partner"} {
		theirs, provider := listen(t)
		here := issuer + "/upstream/" + id
		start(t, theirs, configuration.Configuration{Declarations: configuration.Declarations{
			Clients: []configuration.Client{{ID: "valetkey", Secret: secret, ClientMetadata: oauth.ClientMetadata{
				ClientName: "Login", RedirectURIs: []string{here + "/callback"}, Scope: "openid profile", PostLogoutRedirectURIs: []string{here + "/post-logout"},
				BackchannelLogoutURI: here + "/backchannel-logout", BackchannelLogoutSessionRequired: true,
			}, ClientSettings: record.ClientSettings{SkipConsent: true}}},
			Users: []configuration.User{{Username: "alice", Password: password}, {Username: "bob", Password: password}},
		}})
		config.IdentityProviders = append(config.IdentityProviders, upstream.Config{
			ID: id, Name: id, Issuer: provider, ClientID: "valetkey", ClientSecret: secret, Scope: "openid profile", Rule: "true", RPInitiatedLogout: true,
		})
		w.providers[id] = provider
		w.at(id, "alice")
	}
	start(t, ours, config)
	return w
}

// at opens a fresh browser at a provider for a user of that provider.
func (w *twoProviders) at(id, username string) { w.people[id] = person.New(username, password) }

// signIn signs in here with a provider, in the one browser.
func (w *twoProviders) signIn(id string) {
	w.t.Helper()
	begun, _ := post(w.t, w.browser, w.issuer, "/sign-in/upstream", url.Values{"provider": {id}})
	if response, body := atProvider(w.t, w.browser, w.issuer, begun, w.people[id]); response.StatusCode != http.StatusSeeOther {
		w.t.Fatalf("sign in with %s: %d\n%s", id, response.StatusCode, body)
	}
}

// link links an account at a provider.
func (w *twoProviders) link(id string) {
	w.t.Helper()
	begun, _ := post(w.t, w.browser, w.issuer, "/account/linked", url.Values{"provider": {id}})
	if response, body := atProvider(w.t, w.browser, w.issuer, begun, w.people[id]); !strings.HasSuffix(response.Header.Get("Location"), "/account/linked") {
		w.t.Fatalf("link %s: %d\n%s", id, response.StatusCode, body)
	}
}

// signsOutAt signs out here, and returns the providers by which the browser comes, in their order.
func (w *twoProviders) signsOutAt() string {
	w.t.Helper()
	var passed []string
	out, _ := post(w.t, w.browser, w.issuer, "/sign-out", nil)
	for to := out.Header.Get("Location"); to != "/signed-out"; to = out.Header.Get("Location") {
		id := ""
		for provider, issuer := range w.providers {
			if strings.HasPrefix(to, issuer+"/logout?") {
				id = provider
			}
		}
		if id == "" || len(passed) == 3 {
			w.t.Fatalf("after %v, the browser gets to %q", passed, to)
		}
		if signedIn, _ := get(w.t, w.browser, w.issuer+"/account"); signedIn.StatusCode != http.StatusSeeOther {
			w.t.Error("the session here continues while the browser is at a provider")
		}
		passed = append(passed, id)
		back, err := w.people[id].Visit(to, w.issuer+"/upstream/")
		if err != nil {
			w.t.Fatalf("logout at %s: %v", id, err)
		}
		out, _ = get(w.t, w.browser, back.String())
	}
	return strings.Join(passed, " ")
}

// asksAgain reports whether a provider asks for the password again.
func (w *twoProviders) asksAgain(id string) bool {
	w.t.Helper()
	p := w.people[id]
	p.Password = "wrong"
	defer func() { p.Password = password }()
	begun, _ := post(w.t, visitor(w.t), w.issuer, "/sign-in/upstream", url.Values{"provider": {id}})
	to, err := begun.Location()
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = p.Visit(to.String(), w.issuer+"/upstream/")
	return err != nil
}

// endedBy signs out at a provider, and waits until that provider has told this server.
func (w *twoProviders) endedBy(id string, ended func() bool) {
	w.t.Helper()
	browser := visitor(w.t)
	at, err := url.Parse(w.providers[id])
	if err != nil {
		w.t.Fatal(err)
	}
	browser.Jar.SetCookies(at, w.people[id].Cookies(w.providers[id]))
	if response, _ := post(w.t, browser, w.providers[id], "/sign-out", nil); response.StatusCode >= 400 {
		w.t.Fatalf("sign out at %s: %d", id, response.StatusCode)
	}
	for deadline := time.Now().Add(2 * time.Minute); !ended(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("two minutes after the logout at %s, nothing has happened", id)
		}
	}
}

func (w *twoProviders) signedIn() bool {
	w.t.Helper()
	response, _ := get(w.t, w.browser, w.issuer+"/account")
	return response.StatusCode == http.StatusOK
}

// A logout ends the sessions at both providers with which the user signed in, however often the user has
// signed in with one of them since.
func TestALogoutEndsTheSessionsAtBothProviders(t *testing.T) {
	w := newTwoProviders(t)
	w.signIn("corp")
	w.link("partner")
	for range 10 { // more than a session keeps
		w.signIn("partner")
	}
	if passed := w.signsOutAt(); passed != "corp partner" {
		t.Errorf("the browser comes by %q", passed)
	}
	if !w.asksAgain("corp") || !w.asksAgain("partner") {
		t.Error("the session at a provider continues")
	}
}

// Who links an account has signed in at the provider, so the logout ends that session too.
func TestALogoutEndsTheSessionOfALinkedAccount(t *testing.T) {
	w := newTwoProviders(t)
	w.signIn("corp")
	w.link("partner")
	if w.asksAgain("partner") {
		t.Fatal("there is no session at the provider to begin with")
	}
	if passed := w.signsOutAt(); passed != "corp partner" {
		t.Errorf("the browser comes by %q", passed)
	}
	if !w.asksAgain("partner") {
		t.Error("the session at the provider continues")
	}
}

// A session ends when one of the providers ends its own; the one at the other provider continues.
func TestALogoutAtOneOfTwoProviders(t *testing.T) {
	w := newTwoProviders(t)
	w.signIn("corp")
	w.link("partner")
	w.endedBy("corp", func() bool { return !w.signedIn() })
	if w.asksAgain("partner") {
		t.Error("the logout at one provider has ended the session at the other one")
	}
	w.signIn("partner")
	if passed := w.signsOutAt(); passed != "partner" {
		t.Errorf("after the logout at one provider, the browser comes by %q", passed)
	}
}

// If another user signs in without a logout in between, a logout ends what both have begun in the browser:
// nobody who uses it next gets in with one click.
func TestALogoutAfterAChangeOfUsers(t *testing.T) {
	w := newTwoProviders(t)
	w.signIn("corp")
	w.at("partner", "bob")
	w.signIn("partner")
	w.signIn("partner") // again, as the same user
	if passed := w.signsOutAt(); passed != "corp partner" {
		t.Errorf("the browser comes by %q", passed)
	}
	if !w.asksAgain("corp") || !w.asksAgain("partner") {
		t.Error("the session at a provider continues")
	}
}

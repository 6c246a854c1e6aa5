package upstream

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/identity/upstream"
	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/storage/record"
)

const (
	postLogout = "http://127.0.0.1:9/signed-out"
	postedTo   = "/upstream/corp/post-logout"
)

// newSignOutWorld starts a provider that knows where to send users back to after a logout, and a server that
// signs them out there.
func newSignOutWorld(t *testing.T, change func(*configuration.Configuration)) (issuer, provider string) {
	t.Helper()
	ours, issuer := listen(t)
	theirs, provider := listen(t)
	start(t, theirs, configuration.Configuration{Declarations: configuration.Declarations{
		Clients: []configuration.Client{{ID: "valetkey", Secret: secret, ClientMetadata: oauth.ClientMetadata{
			ClientName: "Login", RedirectURIs: []string{issuer + "/upstream/corp/callback"}, Scope: "openid profile",
			PostLogoutRedirectURIs: []string{issuer + postedTo},
		}, ClientSettings: record.ClientSettings{SkipConsent: true}}},
		Users: []configuration.User{{Username: "alice", Password: password}},
	}})
	config := configuration.Configuration{Declarations: configuration.Declarations{Users: []configuration.User{{Username: "carol", Password: password}}}}
	config.IdentityProviders = []upstream.Config{{
		ID: "corp", Name: "Example Corp", Issuer: provider, ClientID: "valetkey", ClientSecret: secret, Scope: "openid profile", Rule: "true", RPInitiatedLogout: true,
	}}
	app := oauth.ClientMetadata{
		ClientName: "App", RedirectURIs: []string{callback}, TokenEndpointAuthMethod: oauth.AuthMethodNone, Scope: "openid",
		PostLogoutRedirectURIs: []string{postLogout}, GrantTypes: []string{oauth.GrantTypeAuthorizationCode},
	}
	config.Clients = []configuration.Client{{ID: "app", ClientMetadata: app, ClientSettings: record.ClientSettings{SkipConsent: true}}}
	if change != nil {
		change(&config)
	}
	start(t, ours, config)
	return issuer, provider
}

// signsIn signs alice in at the provider and then here, in the same two browsers.
func signsIn(t *testing.T, issuer string, alice *person.Person) *http.Client {
	t.Helper()
	b := visitor(t)
	begun, _ := post(t, b, issuer, "/sign-in/upstream", url.Values{"provider": {"corp"}})
	if response, _ := atProvider(t, b, issuer, begun, alice); response.StatusCode != http.StatusSeeOther {
		t.Fatalf("sign in: %d", response.StatusCode)
	}
	return b
}

// asksAgain reports whether the provider asks alice for the password.
func asksAgain(t *testing.T, issuer string, alice *person.Person) bool {
	t.Helper()
	alice.Password = "wrong"
	defer func() { alice.Password = password }()
	b := visitor(t)
	begun, _ := post(t, b, issuer, "/sign-in/upstream", url.Values{"provider": {"corp"}})
	to, err := begun.Location()
	if err != nil {
		t.Fatal(err)
	}
	_, err = alice.Visit(to.String(), issuer+"/upstream/")
	return err != nil
}

// Signing out here ends both sessions, without a question at the provider, and comes back to our own page.
func TestSigningOutHereSignsOutAtTheProvider(t *testing.T) {
	issuer, provider := newSignOutWorld(t, nil)
	alice := person.New("alice", password)
	b := signsIn(t, issuer, alice)
	if asksAgain(t, issuer, alice) {
		t.Fatal("the provider has no session to begin with")
	}
	page, _ := get(t, b, issuer+"/account")
	if policy := page.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "form-action 'self' http") {
		t.Errorf("browsers refuse the redirect of the form to the provider: %s", policy)
	}
	out, _ := post(t, b, issuer, "/sign-out", nil)
	to := out.Header.Get("Location")
	if !strings.HasPrefix(to, provider+"/logout?") || !strings.Contains(to, "id_token_hint=") || !strings.Contains(to, "state=") {
		t.Fatalf("sign out: %d %.200s", out.StatusCode, to)
	}
	if response, _ := get(t, b, issuer+"/account"); response.StatusCode != http.StatusSeeOther {
		t.Error("the session here continues while the user is at the provider")
	}
	back, err := alice.Visit(to, issuer+"/upstream/")
	if err != nil || back.Path != postedTo {
		t.Fatalf("at the provider: %v %v", back, err)
	}
	if response, _ := get(t, visitor(t), back.String()); response.Header.Get("Location") != "/signed-out" {
		t.Errorf("in another browser: %s", response.Header.Get("Location"))
	}
	if response, _ := get(t, b, back.String()); response.StatusCode != http.StatusSeeOther || response.Header.Get("Location") != "/signed-out" {
		t.Errorf("back: %d %s", response.StatusCode, response.Header.Get("Location"))
	}
	if response, body := get(t, b, issuer+"/signed-out"); response.StatusCode != http.StatusOK || !strings.Contains(body, "signed out") {
		t.Errorf("our own page: %d", response.StatusCode)
	}
	if !asksAgain(t, issuer, alice) {
		t.Error("the session at the provider continues")
	}
}

// A client that requests the logout gets its user back by way of the provider, in the browser that left, and
// once.
func TestAClientsLogoutGoesByWayOfTheProvider(t *testing.T) {
	issuer, provider := newSignOutWorld(t, nil)
	alice := person.New("alice", password)
	alice.Provider = "corp"
	app, err := client.Discover(t.Context(), client.Config{Issuer: issuer, ClientID: "app", RedirectURI: callback, Scopes: []string{"openid"}})
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := signIn(t, app, alice)
	if err != nil {
		t.Fatal(err)
	}
	logout, err := app.LogoutURL(client.LogoutOptions{IDTokenHint: tokens.IDToken, PostLogoutRedirectURI: postLogout, State: "s1"})
	if err != nil {
		t.Fatal(err)
	}
	atProvider, err := alice.Visit(logout, provider+"/logout")
	if err != nil {
		t.Fatal(err)
	}
	back, err := alice.Visit(atProvider.String(), issuer+"/upstream/")
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(url.Values){
		"another state": func(q url.Values) { q.Set("state", "made-up") },
		"no state":      func(q url.Values) { q.Del("state") },
		"a URL":         func(q url.Values) { q.Set("continue", "https://evil.example"); q.Set("state", "https://evil.example") },
	} {
		changed := *back
		query := back.Query()
		change(query)
		changed.RawQuery = query.Encode()
		if to, err := alice.Visit(changed.String(), issuer+"/signed-out"); err != nil {
			t.Errorf("%s: %v %v", name, to, err)
		}
	}
	if response, _ := get(t, visitor(t), back.String()); response.Header.Get("Location") != "/signed-out" {
		t.Errorf("another browser is sent to the client: %s", response.Header.Get("Location"))
	}
	if to, err := alice.Visit(back.String(), postLogout); err != nil || to.Query().Get("state") != "s1" {
		t.Errorf("back: %v %v", to, err)
	}
	if to, err := alice.Visit(back.String(), issuer+"/signed-out"); err != nil {
		t.Errorf("the second time: %v %v", to, err)
	}
}

// Without the setting, without a session that began at a provider, and while the provider is down, the logout
// stays here.
func TestLogoutsThatStayHere(t *testing.T) {
	stays := func(t *testing.T, b *http.Client, issuer string) {
		t.Helper()
		out, _ := post(t, b, issuer, "/sign-out", nil)
		if to := out.Header.Get("Location"); out.StatusCode != http.StatusSeeOther || to != "/signed-out" {
			t.Errorf("sign out: %d %.100s", out.StatusCode, to)
		}
		if response, _ := get(t, b, issuer+"/account"); response.StatusCode != http.StatusSeeOther {
			t.Error("the session continues")
		}
	}
	t.Run("without the setting", func(t *testing.T) {
		issuer, _ := newSignOutWorld(t, func(c *configuration.Configuration) { c.IdentityProviders[0].RPInitiatedLogout = false })
		stays(t, signsIn(t, issuer, person.New("alice", password)), issuer)
	})
	t.Run("a session with a password", func(t *testing.T) {
		issuer, _ := newSignOutWorld(t, nil)
		stays(t, signedIn(t, issuer), issuer)
	})
}

// Package upstream tests sign-in through other providers with complete servers: one instance of
// Valetkey is the provider of another one.
package upstream

import (
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/identity/upstream"
	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/storage/record"
)

const (
	password = "correct horse battery"
	secret   = "7Provider-e2b35a960f1c7d84-4f1c7d8e2b3a5960"
	callback = "http://127.0.0.1:9/callback" // nothing listens here: the browser stops before it
)

// start starts a server whose configuration depends on its issuer.
func start(t *testing.T, listener net.Listener, config configuration.Configuration) *valetkey.Server {
	t.Helper()
	config.Issuer, config.Database = "http://"+listener.Addr().String(), "sqlite::memory:"
	config.Outgoing.Networks = []string{"127.0.0.1"}
	server, err := valetkey.New(valetkey.Config{Configuration: config, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	http := &httptest.Server{Listener: listener, Config: &http.Server{Handler: server}}
	http.Start()
	t.Cleanup(func() {
		http.Close()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

func listen(t *testing.T) (net.Listener, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener, "http://" + listener.Addr().String()
}

func verified() *bool { v := true; return &v }

// newWorld starts a provider, and a server whose only way to sign in is that provider.
func newWorld(t *testing.T, change func(*configuration.Configuration)) (issuer, provider string) {
	t.Helper()
	ours, issuer := listen(t)
	theirs, provider := listen(t)
	groups := record.Scope{Name: "groups", Description: "See your groups", Claims: []string{"groups"}}
	start(t, theirs, configuration.Configuration{Declarations: configuration.Declarations{
		Scopes: []record.Scope{groups},
		Clients: []configuration.Client{{ID: "valetkey", Secret: secret, ClientMetadata: oauth.ClientMetadata{
			ClientName: "Login", RedirectURIs: []string{issuer + "/upstream/corp/callback"}, Scope: "openid profile email groups",
			BackchannelLogoutURI: issuer + "/upstream/corp/backchannel-logout", BackchannelLogoutSessionRequired: true,
		}, ClientSettings: record.ClientSettings{SkipConsent: true}}},
		Users: []configuration.User{
			{Username: "alice", Password: password, Name: "Alice Example", Email: "alice@corp.example", EmailVerified: verified(), Groups: []string{"staff", "engineering"}},
			{Username: "bob", Password: password, Name: "Bob Example", Email: "bob@corp.example", EmailVerified: verified()},
		},
	}})
	app := func(id string, allowed ...string) configuration.Client {
		return configuration.Client{ID: id, ClientMetadata: oauth.ClientMetadata{
			ClientName: id, RedirectURIs: []string{callback}, TokenEndpointAuthMethod: oauth.AuthMethodNone, Scope: "openid profile email groups", Contacts: []string{"admins@corp.example"},
			GrantTypes: []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken},
		}, ClientSettings: record.ClientSettings{SkipConsent: true, AllowedGroups: allowed}}
	}
	config := configuration.Configuration{
		PasswordSignIn: configuration.PasswordSignInOff, Contact: "help@corp.example",
		IdentityProviders: []upstream.Config{{
			ID: "corp", Name: "Example Corp", Issuer: provider, ClientID: "valetkey", ClientSecret: secret, Scope: "openid profile email groups",
			TrustEmail: true, Rule: `"staff" in (claims.groups ?? []) ? {groups: claims.groups} : "Only staff may sign in."`,
		}},
		Declarations: configuration.Declarations{
			Scopes:  []record.Scope{groups},
			Clients: []configuration.Client{app("app"), app("wiki", "engineering"), app("payroll", "finance")},
		},
	}
	if change != nil {
		change(&config)
	}
	start(t, ours, config)
	return issuer, provider
}

func newClient(t *testing.T, issuer, id string) *client.Client {
	t.Helper()
	c, err := client.Discover(t.Context(), client.Config{
		Issuer: issuer, ClientID: id, RedirectURI: callback, Scopes: []string{"openid", "profile", "email", "groups"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// signIn signs a person in to a client, through the provider.
func signIn(t *testing.T, c *client.Client, p *person.Person) (*client.Tokens, error) {
	t.Helper()
	address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{})
	if err != nil {
		t.Fatal(err)
	}
	response, err := p.Visit(address, callback)
	if err != nil {
		return nil, err
	}
	return c.Callback(t.Context(), transaction, response.Query())
}

func userInfo(t *testing.T, c *client.Client, tokens *client.Tokens) (claims map[string]any) {
	t.Helper()
	info, err := c.UserInfo(t.Context(), tokens)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(info.Claims, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

func TestAUserOfTheProviderGetsOneAccount(t *testing.T) {
	issuer, _ := newWorld(t, nil)
	app := newClient(t, issuer, "app")
	first, err := signIn(t, app, person.New("alice", password))
	if err != nil {
		t.Fatal(err)
	}
	claims := userInfo(t, app, first)
	if claims["name"] != "Alice Example" || claims["email"] != "alice@corp.example" || claims["email_verified"] != true || claims["preferred_username"] != "alice" {
		t.Errorf("claims: %v", claims)
	}
	if groups, _ := json.Marshal(claims["groups"]); string(groups) != `["engineering","staff"]` {
		t.Errorf("groups: %s", groups)
	}
	again, err := signIn(t, app, person.New("alice", password))
	if err != nil {
		t.Fatal(err)
	}
	if again.Identity.Subject != first.Identity.Subject {
		t.Error("a second sign-in in another browser has another account")
	}
	if slices.Contains(first.Identity.AMR, "mfa") || first.Identity.ACR != "1" {
		t.Errorf("acr %q, amr %v: the provider counts for more than one factor", first.Identity.ACR, first.Identity.AMR)
	}
	if _, err := app.Refresh(t.Context(), first); err != nil {
		t.Errorf("refresh: %v", err)
	}
}

func TestFD10_TheRuleRefusesWithAReason(t *testing.T) {
	issuer, _ := newWorld(t, nil)
	_, err := signIn(t, newClient(t, issuer, "app"), person.New("bob", password))
	if err == nil || !strings.Contains(err.Error(), "You cannot sign in with") {
		t.Errorf("bob, who is not staff: %v", err)
	}
}

func TestAllowedGroupsOfAClient(t *testing.T) {
	issuer, _ := newWorld(t, nil)
	if _, err := signIn(t, newClient(t, issuer, "wiki"), person.New("alice", password)); err != nil {
		t.Errorf("a client for a group of alice: %v", err)
	}
	_, err := signIn(t, newClient(t, issuer, "payroll"), person.New("alice", password))
	if err == nil || !strings.Contains(err.Error(), "You do not have access to this application") {
		t.Errorf("a client for another group: %v", err)
	}
}

// A logout at the provider ends the session here, and what was issued in it.
func TestBackChannelLogoutOfTheProvider(t *testing.T) {
	issuer, provider := newWorld(t, nil)
	app, alice := newClient(t, issuer, "app"), person.New("alice", password)
	tokens, err := signIn(t, app, alice)
	if err != nil {
		t.Fatal(err)
	}
	other, err := signIn(t, app, person.New("alice", password))
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, provider+"/sign-out", strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Origin", provider)
	for _, cookie := range alice.Cookies(provider) {
		request.AddCookie(cookie)
	}
	if response, err := http.DefaultTransport.RoundTrip(request); err != nil || response.StatusCode >= 400 {
		t.Fatalf("sign out at the provider: %v, %v", response, err)
	}
	deadline := time.Now().Add(2 * time.Minute)
	for {
		if tokens, err = app.Refresh(t.Context(), tokens); err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("two minutes after the logout, the refresh token is still accepted")
		}
		time.Sleep(50 * time.Millisecond)
	}
	if _, err := app.Refresh(t.Context(), other); err != nil {
		t.Errorf("the session in another browser ended, too: %v", err)
	}
}

// visitor is a browser that does not follow redirects.
func visitor(t *testing.T) *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func get(t *testing.T, b *http.Client, address string) (*http.Response, string) {
	t.Helper()
	response, err := b.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

// A response is accepted once, in the browser in which the sign-in began, and at the redirect URI of
// its provider, with the iss of the provider.
func TestST10_FD07_ResponsesOfAProvider(t *testing.T) {
	issuer, provider := newWorld(t, func(c *configuration.Configuration) {
		other := c.IdentityProviders[0]
		other.ID, other.Name, other.Issuer = "other", "Other", "http://127.0.0.1:9"
		other.Disabled = false
		c.IdentityProviders = append(c.IdentityProviders, other)
		c.PasswordSignIn = ""
	})
	begin := func(b *http.Client) url.Values {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, issuer+"/sign-in/upstream", strings.NewReader("provider=corp"))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("Origin", issuer)
		response, err := b.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		to, err := response.Location()
		if err != nil || !strings.HasPrefix(to.String(), provider+"/authorize") {
			t.Fatalf("%d %v", response.StatusCode, to)
		}
		if query := to.Query(); query.Get("request_uri") == "" {
			t.Errorf("the request is not pushed, although the provider offers it: %s", to)
		}
		authorized, err := person.New("alice", password).Visit(to.String(), issuer+"/upstream/corp/callback")
		if err != nil {
			t.Fatal(err)
		}
		return authorized.Query()
	}
	send := func(b *http.Client, id string, response url.Values) (int, string) {
		r, body := get(t, b, issuer+"/upstream/"+id+"/callback?"+response.Encode())
		return r.StatusCode, body
	}
	b := visitor(t)
	response := begin(b)
	if status, _ := send(visitor(t), "corp", response); status != http.StatusBadRequest {
		t.Errorf("in another browser: %d", status)
	}
	if status, body := send(b, "other", response); status != http.StatusBadGateway || !strings.Contains(body, "could not verify") {
		t.Errorf("at the redirect URI of another provider: %d", status)
	}
	if status, _ := send(b, "corp", response); status != http.StatusSeeOther {
		t.Errorf("the first time: %d", status)
	}
	if status, _ := send(b, "corp", response); status != http.StatusBadRequest {
		t.Errorf("replayed: %d", status)
	}
	for name, change := range map[string]func(url.Values){
		"another iss":       func(v url.Values) { v.Set("iss", "https://evil.example") },
		"no iss":            func(v url.Values) { v.Del("iss") },
		"an injected code":  func(v url.Values) { v.Set("code", begin(visitor(t)).Get("code")) },
		"two codes":         func(v url.Values) { v.Add("code", "x") },
		"a token":           func(v url.Values) { v.Set("access_token", "x") },
		"an error and code": func(v url.Values) { v.Set("error", "server_error") },
	} {
		b := visitor(t)
		response := begin(b)
		change(response)
		if status, _ := send(b, "corp", response); status < 400 {
			t.Errorf("%s: %d", name, status)
		}
		if r, _ := get(t, b, issuer+"/account"); r.StatusCode != http.StatusSeeOther {
			t.Errorf("%s: signed in", name)
		}
	}
	if status, body := send(b, "corp", url.Values{"state": {"made up"}, "code": {"x"}}); status != http.StatusBadRequest || !strings.Contains(body, "expired") {
		t.Errorf("a made-up state: %d", status)
	}
}

// A provider that is down is told on a page, and keeps nobody else out.
func TestRE26_AProviderThatIsDown(t *testing.T) {
	issuer, _ := newWorld(t, func(c *configuration.Configuration) {
		c.IdentityProviders[0].Issuer = "http://127.0.0.1:9"
		c.PasswordSignIn = ""
		c.Users = []configuration.User{{Username: "carol", Password: password}}
	})
	b := visitor(t)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, issuer+"/sign-in/upstream", strings.NewReader("provider=corp"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Origin", issuer)
	response, err := b.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), "Example Corp is not available") {
		t.Errorf("%d %v", response.StatusCode, err)
	}
	if _, err := signIn(t, newClient(t, issuer, "app"), person.New("carol", password)); err != nil {
		t.Errorf("a local user: %v", err)
	}
	if response, _ := get(t, b, issuer+"/upstream/corp/backchannel-logout"); response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET of the logout endpoint: %d", response.StatusCode)
	}
}

func TestFD09_LogoutTokensMustBeValid(t *testing.T) {
	issuer, _ := newWorld(t, nil)
	for _, token := range []string{"", "x", "eyJhbGciOiJub25lIn0.e30.", strings.Repeat("x", 40_000)} {
		response, err := http.PostForm(issuer+"/upstream/corp/backchannel-logout", url.Values{"logout_token": {token}})
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusBadRequest {
			t.Errorf("%.20q: %d", token, response.StatusCode)
		}
	}
}

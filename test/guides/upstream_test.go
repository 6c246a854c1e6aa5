package guides

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

const (
	staffPassword  = "a password at the company"
	providerSecret = "7Provider-e2b35a960f1c7d84-4f1c7d8e2b3a5960"
)

// upstreamSite is a server with the settings of upstream.md, and a second Valetkey that is its provider.
type upstreamSite struct {
	*site
	*guide
	t        *testing.T
	provider *site
	callback string
}

// TestUpstream follows upstream.md with a second Valetkey as the provider: it loads each of its blocks, and sees in
// a running server what the text promises.
func TestUpstream(t *testing.T) {
	u := &upstreamSite{site: newSite(t), guide: openGuide(t, "upstream.md"), t: t, provider: newSite(t)}
	// Browsers send cookies to all ports of a host, so the two servers have different hosts.
	u.provider.issuer = "http://127.0.0.1:" + port(u.provider.address)
	application := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("<p>" + r.URL.Query().Get("state") + "</p>"))
	}))
	t.Cleanup(application.Close)
	u.callback = application.URL + "/callback"
	u.startProvider()
	u.addProvider()
	u.decideWhoGetsAnAccount()
	u.limitGroups()
	u.signOutAtTheProvider()
	u.withoutOpenIDConnect()
}

// startProvider does step 1 of "Add a provider", and what the guide says about a Valetkey as the provider.
func (u *upstreamSite) startProvider() {
	u.says("Add a provider", "`ISSUER/upstream/ID/callback`", "`ISSUER/upstream/ID/backchannel-logout`")
	u.says("Decide who gets an account", "If the provider is another Valetkey, declare the scope `groups` there, and name it at the client")
	u.says("Sign out at the provider too", "Register `ISSUER/upstream/ID/post-logout` at the provider")
	here := u.issuer + "/upstream/corp/"
	u.provider.serve("outgoing:\n  networks: [127.0.0.1]", u.block("Groups", 0), `clients:
  - client_id: valetkey
    client_name: Login
    client_secret: `+providerSecret+`
    redirect_uris: [`+here+`callback]
    backchannel_logout_uri: `+here+`backchannel-logout
    post_logout_redirect_uris: [`+here+`post-logout]
    scope: openid profile email groups
    skip_consent: true
users:
  - username: alice
    password: `+staffPassword+`
    name: Alice Example
    groups: [staff, wiki-editors]
  - username: bob
    password: `+staffPassword+`
`)
}

// provided replaces in a block what belongs to the test.
func (u *upstreamSite) provided(title string, n int) string {
	u.t.Helper()
	return u.block(title, n,
		"https://login.corp.example", u.provider.issuer, "/etc/valetkey/corp.secret", u.site.file("corp.secret", providerSecret+"\n"))
}

const reachable = "outgoing:\n  networks: [127.0.0.1]\n"

// signsIn signs a user of the provider in, and returns the page that follows.
func (u *upstreamSite) signsIn(b *visitor, username string) *page {
	u.t.Helper()
	return b.open(u.issuer+"/sign-in").submit("Continue with Example Corp", nil).submit("Sign in", url.Values{"identifier": {username}, "password": {staffPassword}})
}

// addProvider does what "Add a provider" says.
func (u *upstreamSite) addProvider() {
	u.serve(reachable, u.provided("Add a provider", 0))
	u.says("Add a provider", `The sign-in page then has a button "Continue with Example Corp"`)
	alice := u.browser()
	u.signsIn(alice, "alice").has("alice")
	alice.open(u.issuer + "/account/linked").has("Example Corp")
	// The way that was used to sign in is the only one, and cannot be removed.
	alice.open(u.issuer+"/account/linked").submit("Unlink", nil).has(english("linked.last"))
	u.site.file("wrong.yaml", "issuer: "+u.issuer+"\nidentity_providers:\n  - id: corp\n    issuer: https://login.corp.example\n    client_idd: valetkey\n")
	u.says("Add a provider", "`valetkey check` reports every problem")
	if output, err := u.run("valetkey check wrong.yaml"); err == nil || !strings.Contains(output, "client_idd") {
		u.t.Errorf("a member that does not exist: %v\n%s", err, output)
	}
}

// decideWhoGetsAnAccount uses the rule of the section of that name.
func (u *upstreamSite) decideWhoGetsAnAccount() {
	u.says("Decide who gets an account", "The rule is evaluated at every sign-in")
	block := u.provided("Decide who gets an account", 0)
	u.serve(reachable, strings.Replace(block, "- id: corp", "- id: corp\n    name: Example Corp", 1))
	u.signsIn(u.browser(), "bob").has("You cannot sign in with Example Corp", "Only staff may sign in.")
	u.signsIn(u.browser(), "alice").has("Alice Example")

	without := strings.Replace(u.provided("Add a provider", 0), `    rule: "true"`+"\n", "", 1)
	u.says("Decide who gets an account", "Without `rule`, only users who have linked the provider on their account page")
	u.serve(reachable, without, "sign_up: true")
	u.signsIn(u.browser(), "bob").has(english("error.upstream-no-account.title"))
	bob := u.browser()
	bob.open(u.issuer+"/sign-up").submit(english("sign-up.submit"), url.Values{"username": {"bob-here"}, "password": {"a lighthouse keeper's cat"}})
	bob.open(u.issuer+"/account/linked").submit("Link Example Corp", nil).submit("Sign in", url.Values{"identifier": {"bob"}, "password": {staffPassword}}).has(english("notice.linked"))
	other := u.browser()
	u.signsIn(other, "bob").has("bob-here")
	u.says("Let users sign in with another provider", "Unlinking ends the sessions that began with the linked account, except the current one")
	bob.open(u.issuer+"/account/linked").submit("Unlink", nil).has(english("linked.none"))
	other.open(u.issuer + "/account").has(english("common.identifier"))
}

// limitGroups uses the blocks of "Groups".
func (u *upstreamSite) limitGroups() {
	rule := strings.Replace(u.provided("Decide who gets an account", 0), "- id: corp", "- id: corp\n    name: Example Corp", 1)
	u.serve(reachable, rule, "contact: help@corp.example", u.block("Groups", 0), u.block("Groups", 1), `clients:
  - client_id: wiki
    client_name: Wiki
    redirect_uris: [`+u.callback+`]
    token_endpoint_auth_method: none
    scope: openid groups
    skip_consent: true
  - client_id: payroll
    client_name: Payroll
    redirect_uris: [`+u.callback+`]
    token_endpoint_auth_method: none
    scope: openid groups
    skip_consent: true
    allowed_groups: [finance]
`)
	alice := u.browser()
	u.signsIn(alice, "alice").has("Alice Example")
	request := func(client string) string {
		return u.issuer + "/authorize?" + url.Values{
			"response_type": {"code"}, "client_id": {client}, "redirect_uri": {u.callback}, "scope": {"openid groups"}, "state": {"back at " + client},
			"code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"},
		}.Encode()
	}
	alice.open(request("wiki")).has("back at wiki")
	u.says("Groups", "Other users see a page that says where to ask for access", "`valetkey explain` shows the refusal")
	refused := alice.open(request("payroll"))
	refused.has(english("error.not-allowed.title"), "help@corp.example")
	id := reference.FindString(refused.text())
	if shown := u.runs("valetkey explain " + id + " --config valetkey.yaml"); !strings.Contains(shown, "payroll") || !strings.Contains(shown, "group") {
		u.t.Errorf("explain %s:\n%s", id, shown)
	}
}

// signOutAtTheProvider does what "Sign out at the provider too" and "Strength, time and logout" say.
func (u *upstreamSite) signOutAtTheProvider() {
	u.serve(reachable, u.provided("Sign out at the provider too", 0))
	alice := u.browser()
	u.signsIn(alice, "alice")
	alice.open(u.issuer+"/account").submit("Sign out", nil).has(english("signed-out.title"))
	u.signsIn(alice, "alice") // the provider asks for the password again
	u.says("Strength, time and logout", "A back-channel logout of the provider ends exactly the sessions that began in the session it names")
	other := u.browser()
	u.signsIn(other, "alice")
	alice.open(u.provider.issuer+"/account").submit("Sign out", nil)
	u.until("the session has ended", func() bool {
		return strings.Contains(alice.open(u.issuer+"/account").text(), "Continue with Example Corp")
	})
	other.open(u.issuer + "/account").has("Your account")
}

// withoutOpenIDConnect uses the block of "A server without OpenID Connect" with a server that has what it names.
func (u *upstreamSite) withoutOpenIDConnect() {
	confirmed := `"2026-01-01"`
	forge := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/oauth/authorize":
			q := r.URL.Query()
			http.Redirect(w, r, q.Get("redirect_uri")+"?"+url.Values{"state": {q.Get("state")}, "code": {"c0de"}}.Encode(), http.StatusSeeOther)
		case "/oauth/token":
			w.Header().Set("Content-Type", "application/json")
			w.Write([]byte(`{"access_token":"t0ken","token_type":"Bearer"}`))
		case "/api/user":
			w.Header().Set("Content-Type", "application/json")
			w.Write([]byte(`{"id":7,"profile":{"display_name":"Alice at Forge"},"email":"alice@forge.example","confirmed_at":` + confirmed + `}`))
		}
	}))
	u.t.Cleanup(forge.Close)
	u.serve(reachable, u.block("A server without OpenID Connect", 0, "https://forge.example", forge.URL, "/etc/valetkey/forge.secret", u.site.file("forge.secret", providerSecret+"\n")))
	b := u.browser()
	b.open(u.issuer+"/sign-in").submit("Continue with Forge", nil).has("Your account")
	b.open(u.issuer+"/account/linked").has("Alice at Forge", "alice@forge.example")
}

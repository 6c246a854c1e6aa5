package ui

import (
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/record"
)

// redirected returns the path and query of a 303's Location.
func (r response) redirected(t *testing.T) string {
	t.Helper()
	if r.StatusCode != http.StatusSeeOther {
		t.Fatalf("%s %s: status %d, want 303:\n%s", r.Request.Method, r.Request.URL.Path, r.StatusCode, r.body)
	}
	return r.Header.Get("Location")
}

func (r response) redirectedTo(t *testing.T, want string) {
	t.Helper()
	if got := r.redirected(t); got != want {
		t.Errorf("%s %s leads to %s, want %s", r.Request.Method, r.Request.URL.Path, got, want)
	}
}

var hiddenField = regexp.MustCompile(`<input type="hidden" name="(\w+)" value="([^"]*)">`)

// hidden returns the hidden fields of the page's forms.
func (r response) hidden() url.Values {
	form := url.Values{}
	for _, m := range hiddenField.FindAllStringSubmatch(r.body, -1) {
		form.Set(m[1], html.UnescapeString(m[2]))
	}
	return form
}

func with(form url.Values, pairs ...string) url.Values {
	for i := 0; i < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	return form
}

// toConsent goes from the client to the consent page.
func (b *browserClient) toConsent(change url.Values) response {
	b.t.Helper()
	signIn := b.get(b.get(b.authorizeURL(change)).redirected(b.t))
	signIn.want(b.t, 200, "Sign in", "Photo Printer")
	consent := b.get(b.post("/sign-in", with(signIn.hidden(), "identifier", "alice", "password", password)).redirected(b.t))
	consent.want(b.t, 200, "wants access")
	return consent
}

func TestSignInAndConsent(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	b := w.newBrowser()
	page := b.toConsent(nil)
	page.want(t, 200, "<bdi class=\"client\">Photo Printer</bdi>", "printer.example.com", "Alice Liddell",
		"Sign you in and recognize you when you return", "See your photos", "<code><bdi>photos.write</bdi></code>",
		`name="scope" value="photos.write" checked`, `name="scope" value="email" checked`)
	if strings.Contains(page.body, `value="photos.read"`) {
		t.Error("a required scope can be unticked")
	}
	back, err := url.Parse(b.post("/consent", with(page.hidden(), "answer", "allow", "scope", "email")).redirected(t))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(back.String(), w.callback+"?") || back.Query().Get("code") == "" || back.Query().Get("state") != "xyz" {
		t.Errorf("the browser returns to %s", back)
	}
	grant, err := w.store.Grant(t.Context(), "a", "printer")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(oauth.Scope{"openid", "email", "photos.read"}, grant.Scope); diff != "" {
		t.Errorf("granted scope (-want +got):\n%s", diff)
	}

	// The second time, no page is shown.
	if again := b.get(w.authorizeURL(nil)).redirected(t); !strings.HasPrefix(again, w.callback+"?") {
		t.Errorf("the second time, the browser goes to %s", again)
	}
	// New scopes are shown first, those allowed before are collapsed.
	page = b.get(b.get(w.authorizeURL(url.Values{"scope": {"openid email photos.read offline_access profile"}, "prompt": {"consent"}})).redirected(t))
	page.want(t, 200, "Already allowed (3)", "when you are not using the application")
}

func TestDenyingConsent(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	b := w.newBrowser()
	page := b.toConsent(nil)
	if back := b.post("/consent", with(page.hidden(), "answer", "deny")).redirected(t); !strings.Contains(back, "error=access_denied") {
		t.Errorf("the browser returns to %s", back)
	}
	// The back button shows the page again, but it has expired.
	b.post("/consent", with(page.hidden(), "answer", "allow")).want(t, 400, "This page has expired", "Reference")
	if grants, _ := w.store.GrantsOf(t.Context(), "a"); len(grants) != 0 {
		t.Errorf("there is a grant: %v", grants)
	}
}

func TestConsentRequiresAllowOrDeny(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	b := w.newBrowser()
	page := b.toConsent(nil)
	b.post("/consent", page.hidden()).want(t, 400, "could not read")
	b.post("/consent", with(page.hidden(), "answer", "yes")).want(t, 400)
	b.post("/consent", url.Values{"answer": {"allow"}}).want(t, 400)
}

func TestCN04_ConsentGrantsOnlyRequestedScopes(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	b := w.newBrowser()
	page := b.toConsent(url.Values{"scope": {"openid photos.read"}})
	b.post("/consent", with(page.hidden(), "answer", "allow", "scope", "offline_access", "scope", "photos.write", "client_id", "other")).redirected(t)
	grant, err := w.store.Grant(t.Context(), "a", "printer")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(oauth.Scope{"openid", "photos.read"}, grant.Scope); diff != "" {
		t.Errorf("granted scope (-want +got):\n%s", diff)
	}
}

func TestSE13_ConsentBelongsToTheUserWhoSawThePage(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	w.addUser(identity.User{ID: "b", Username: "bob", PasswordHash: passwordHash()})
	b := w.newBrowser()
	page := b.toConsent(nil)
	b.post("/sign-out", url.Values{}).redirectedTo(t, "/signed-out")
	b.signIn("bob", password).redirected(t)
	b.post("/consent", with(page.hidden(), "answer", "allow")).redirected(t)
	for _, subject := range []string{"a", "b"} {
		if grants, _ := w.store.GrantsOf(t.Context(), subject); len(grants) != 0 {
			t.Errorf("the page of alice, submitted by bob, created a grant of %s", subject)
		}
	}
}

func TestSwitchAccount(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	w.addUser(identity.User{ID: "b", Username: "bob", PasswordHash: passwordHash()})
	b := w.newBrowser()
	page := b.toConsent(nil)
	other := regexp.MustCompile(`href="(/sign-in\?interaction=[^"]+)"`).FindStringSubmatch(page.body)
	if other == nil {
		t.Fatal("there is no link to another account")
	}
	signIn := b.get(html.UnescapeString(other[1]))
	signIn.want(t, 200, "Continue with your current account")
	consent := b.get(b.post("/sign-in", with(signIn.hidden(), "identifier", "bob", "password", password)).redirected(t))
	consent.want(t, 200, "bob", "wants access")
}

func TestSE15_TwoTabsFinishIndependently(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	b := w.newBrowser()
	one := b.get(b.get(w.authorizeURL(url.Values{"state": {"one"}})).redirected(t))
	two := b.get(b.get(w.authorizeURL(url.Values{"state": {"two"}})).redirected(t))
	credentials := []string{"identifier", "alice", "password", password}
	consentTwo := b.get(b.post("/sign-in", with(two.hidden(), credentials...)).redirected(t))
	consentOne := b.get(b.post("/sign-in", with(one.hidden(), credentials...)).redirected(t))
	if back := b.post("/consent", with(consentOne.hidden(), "answer", "allow")).redirected(t); !strings.Contains(back, "state=one") {
		t.Errorf("the first tab returns to %s", back)
	}
	if back := b.post("/consent", with(consentTwo.hidden(), "answer", "allow")).redirected(t); !strings.Contains(back, "state=two") {
		t.Errorf("the second tab returns to %s", back)
	}
}

func TestSE15_SigningInAgainKeepsApplicationsAccess(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	b := w.newBrowser()
	page := b.toConsent(nil)
	back, err := url.Parse(b.post("/consent", with(page.hidden(), "answer", "allow")).redirected(t))
	if err != nil {
		t.Fatal(err)
	}
	b.signIn("alice", password).redirected(t)
	token := func() int {
		return b.post("/token", url.Values{
			"grant_type": {"authorization_code"}, "client_id": {"printer"}, "redirect_uri": {w.callback},
			"code": {back.Query().Get("code")}, "code_verifier": {"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"},
		}).StatusCode
	}
	if status := token(); status != 200 {
		t.Errorf("after signing in again, the code of the earlier session: status %d, want 200", status)
	}

	back, err = url.Parse(b.get(w.authorizeURL(nil)).redirected(t))
	if err != nil {
		t.Fatal(err)
	}
	b.signIn("alice", password).redirected(t)
	b.post("/sign-out", url.Values{}).redirected(t)
	if status := token(); status != 400 {
		t.Errorf("after sign-out: status %d, want 400", status)
	}
}

func TestTooManySignInPagesAreRefused(t *testing.T) {
	w := newWorld(t)
	rec := httptest.NewRecorder()
	w.ui.ErrorPage(rec, httptest.NewRequest("GET", "/authorize", nil), authserver.PageError{Status: 429, Code: oauth.TemporarilyUnavailable, Reference: "r"})
	if rec.Code != 429 || rec.Header().Get("Retry-After") != "60" {
		t.Errorf("status %d, Retry-After %q", rec.Code, rec.Header().Get("Retry-After"))
	}
}

func TestST06_AnInteractionStaysInItsBrowser(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	attacker, victim := w.newBrowser(), w.newBrowser()
	victim.signIn("alice", password).redirected(t)
	page := attacker.get(w.authorizeURL(nil)).redirected(t)
	victim.get(page).want(t, 400, "browser where you started", "Reference")
	interaction := interactionOf(page)
	victim.post("/consent", url.Values{"interaction": {interaction}, "answer": {"allow"}, "subject": {"a"}}).want(t, 400)
	resp := victim.post("/sign-in", url.Values{"interaction": {interaction}, "identifier": {"alice"}, "password": {password}})
	resp.want(t, 400, "browser where you started")
	if len(resp.Cookies()) != 0 {
		t.Errorf("cookies were set: %v", resp.Cookies())
	}
}

func TestErrorPages(t *testing.T) {
	w := newWorld(t)
	b := w.newBrowser()
	b.get(w.authorizeURL(nil)).redirected(t) // sets the browser's cookie
	b.get("/sign-in?interaction=aaaaaaaaaaaaaaaaaaaaaa").want(t, 400, "This page has expired", "Reference", "start again")
	b.get("/consent").want(t, 400, "This page has expired")
	b.get(w.authorizeURL(url.Values{"client_id": {"nobody"}})).want(t, 400, "Unknown application", "Reference")
	b.get(w.authorizeURL(url.Values{"redirect_uri": {"https://evil.example.com"}})).want(t, 400, "Request blocked", "Reference", "Photo Printer")
	b.get(w.authorizeURL(url.Values{"redirect_uri": {""}})).want(t, 400, "Incomplete link", "Reference", "Photo Printer")
	b.get("/nothing").want(t, 404, "Page not found")
	b.get("/sign-in/").want(t, 404)
	b.get("/%73ign-in").want(t, 404)
}

func TestSignOutFromAnApplication(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	b := w.newBrowser()
	b.signIn("alice", password).redirected(t)
	leave := "/logout?" + url.Values{"client_id": {"printer"}, "post_logout_redirect_uri": {"https://printer.example.com/bye"}, "state": {"s"}}.Encode()
	page := b.get(b.get(leave).redirected(t))
	page.want(t, 200, "Sign out?", "Photo Printer", "Alice Liddell")
	b.get("/account").want(t, 200) // SE-06: not signed out yet
	b.post("/sign-out", page.hidden()).redirectedTo(t, "https://printer.example.com/bye?state=s")
	b.get("/account").redirectedTo(t, "/sign-in")
}

func TestSE04_SignOutEndsTheSession(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	b := w.newBrowser()
	signedIn := b.signIn("alice", password)
	b.get("/sign-out").want(t, 200, "Sign out?")
	b.post("/sign-out", url.Values{}).redirectedTo(t, "/signed-out")
	b.get("/signed-out").want(t, 200, "You are signed out")
	replay := b.request("GET", "/account", nil)
	for _, cookie := range signedIn.Cookies() {
		replay.AddCookie(cookie)
	}
	b.do(replay).redirectedTo(t, "/sign-in")
}

func TestAccountPage(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	w.addUser(identity.User{ID: "b", Username: "bob", PasswordHash: passwordHash()})
	grantOf := func(subject string) string {
		return w.grant(subject, "printer", oauth.Scope{"openid", "photos.read"}).ID
	}
	own, foreign := grantOf("a"), grantOf("b")
	if err := w.store.Declare(t.Context(), time.Now(), "resources", declaration.Declaration{
		Resources: []record.Resource{{Identifier: "https://photos.example", Name: "Photo library"}},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.UpdateGrant(t.Context(), "a", "printer", func(grant *record.Grant) error {
		grant.Resources = []string{"https://photos.example/", "https://gone.example"}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	b, other := w.newBrowser(), w.newBrowser()
	b.get("/").redirectedTo(t, "/account")
	b.get("/account").redirectedTo(t, "/sign-in")
	b.signIn("alice", password).redirected(t)
	other.signIn("alice", password).redirected(t)
	page := b.get("/account")
	page.want(t, 200, "Alice Liddell", "alice@example.com", "Photo Printer", "See your photos", "Photo library", "https://gone.example", "This browser", own)
	// OpenID Connect Core, section 4: the link makes the application start a sign-in here.
	page.want(t, 200, html.EscapeString("https://printer.example.com/sign-in?from=account&iss="+url.QueryEscape(w.url)))

	// CN-07, ST-07: only the user's own grant can be revoked.
	b.post("/account/applications/revoke", url.Values{"grant": {foreign}}).redirected(t)
	if _, err := w.store.Grant(t.Context(), "b", "printer"); err != nil {
		t.Errorf("alice revoked the grant of bob: %v", err)
	}
	b.get(b.post("/account/applications/revoke", url.Values{"grant": {own}}).redirected(t)).want(t, 200, "Access revoked", "No applications have access")
	if _, err := w.store.Grant(t.Context(), "a", "printer"); err == nil {
		t.Error("the grant is still there")
	}

	// Only the user's own session can be ended.
	bobs := w.newBrowser()
	bobs.signIn("bob", password).redirected(t)
	sessions, err := w.accounts.Sessions(t.Context(), time.Now(), "b")
	if err != nil || len(sessions) != 1 {
		t.Fatal(err)
	}
	b.post("/account/sessions/end", url.Values{"session": {sessions[0].ID}}).redirected(t)
	bobs.get("/account").want(t, 200, "bob")
	end := regexp.MustCompile(`name="session" value="([^"]+)"`).FindStringSubmatch(page.body)
	if end == nil {
		t.Fatal("the other session cannot be ended")
	}
	b.post("/account/sessions/end", url.Values{"session": {end[1]}}).redirectedTo(t, "/account")
	other.get("/account").redirectedTo(t, "/sign-in")
	b.get("/account").want(t, 200)

	other.signIn("alice", password).redirected(t)
	b.post("/account/sessions/end-all", url.Values{}).redirectedTo(t, "/signed-out")
	other.get("/account").redirectedTo(t, "/sign-in")
	b.get("/account").redirectedTo(t, "/sign-in")
}

func TestLG36_ChangePassword(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	b, other := w.newBrowser(), w.newBrowser()
	b.get("/account/password").redirectedTo(t, "/sign-in")
	b.signIn("alice", password).redirected(t)
	other.signIn("alice", password).redirected(t)
	b.get("/account/password").want(t, 200, "Current password")
	b.post("/account/password", url.Values{"current": {"wrong"}, "new": {"command module 12"}}).want(t, 403, "Your current password is incorrect", `role="alert"`)
	b.post("/account/password", url.Values{"current": {password}, "new": {"password"}}).want(t, 400, `role="alert"`)
	b.post("/account/password", url.Values{"current": {password}, "new": {"command module 12"}, "end-others": {"on"}}).redirectedTo(t, "/account")
	b.get("/account").want(t, 200, "Your password has been changed, and you have been signed out on all other devices")
	other.get("/account").redirectedTo(t, "/sign-in")
	other.signIn("alice", password).want(t, 403)
	other.signIn("alice", "command module 12").redirected(t)
}

func TestLG37_SetupWorksOnce(t *testing.T) {
	w := newWorld(t)
	token, err := w.accounts.SetupToken(t.Context(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	b := w.newBrowser()
	b.get("/setup").want(t, 404)
	b.get("/setup?token=guess").want(t, 404)
	page := b.get("/setup?token=" + token)
	page.want(t, 200, "There are no users yet")
	b.post("/setup", with(page.hidden(), "username", "root", "password", "short")).want(t, 400, "too short", `value="root"`)
	b.post("/setup", with(page.hidden(), "username", "a b", "password", password)).want(t, 400, `role="alert"`)
	b.post("/setup", with(page.hidden(), "username", "root", "email", "root@example.com", "password", password)).redirectedTo(t, "/console/welcome")
	b.get("/account").want(t, 200, "root", "Administrator", `href="/console"`, "Manage this server", "Welcome! You are the administrator of this service.")
	b.get("/setup?token="+token).want(t, 404, "restart the server")
	b.post("/setup", with(page.hidden(), "username", "second", "password", password)).want(t, 404)
}

func TestEngineCallbacks(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	alice := w.updateUser("a", func(alice *identity.User) {
		alice.Claims["iss"], alice.Claims["sub"] = "https://evil.example.com", "b"
	})
	claims, err := w.ui.Claims(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	want := oauth.Claims{"sub": "a", "preferred_username": "alice", "name": "Alice Liddell", "email": "alice@example.com", "updated_at": alice.UpdatedAt.Unix()}
	if diff := cmp.Diff(want, claims); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
	_, session, err := w.accounts.StartSession(t.Context(), time.Now(), alice, identity.SessionDetails{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	active := func() bool {
		ok, err := w.ui.SessionActive(t.Context(), session.ID)
		if err != nil {
			t.Error(err)
		}
		return ok
	}
	if !active() {
		t.Error("a new session is not active")
	}
	w.updateUser("a", func(alice *identity.User) { alice.Disabled = true })
	if active() {
		t.Error("the session of a disabled person is active")
	}
	if _, err := w.ui.Claims(t.Context(), "a"); err == nil {
		t.Error("a disabled person has claims")
	}
}

func TestLoginHintIsFilledIn(t *testing.T) {
	w := newWorld(t)
	b := w.newBrowser()
	b.get(b.get(w.authorizeURL(url.Values{"login_hint": {`"><script>alice`}})).redirected(t)).want(t, 200, `value="&#34;&gt;&lt;script&gt;alice"`)
}

func TestCN09_ClientNamesAreShownAsText(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	w.declare(declaration.Declaration{
		Clients: []record.Client{{ID: "printer", ClientMetadata: oauth.ClientMetadata{
			ClientName: "<img src=x onerror=alert(1)>\u202Egnp.exe\u200B\x00" + strings.Repeat("x", 10_000),
			ClientURI:  "javascript:alert(1)", PolicyURI: "javascript:alert(1)", TOSURI: "http://insecure.example.com",
			RedirectURIs: []string{w.callback}, TokenEndpointAuthMethod: "none", Scope: "openid email photos.read photos.write",
		}}},
		Scopes: []record.Scope{{Name: "photos.read", Description: "<script>alert(1)</script>\u202E"}, {Name: "photos.write"}, {Name: "email"}},
	})
	b := w.newBrowser()
	signIn := b.get(b.get(w.authorizeURL(nil)).redirected(t))
	consent := b.get(b.post("/sign-in", with(signIn.hidden(), "identifier", "alice", "password", password)).redirected(t))
	for _, page := range []response{signIn, consent} {
		for _, bad := range []string{"<img", "<script>alert", "javascript:", "insecure.example.com", "\u202E", "\u200B", "\x00", strings.Repeat("x", 100)} {
			if strings.Contains(page.body, bad) {
				t.Errorf("%s has %q", page.Request.URL.Path, bad)
			}
		}
		page.want(t, 200, "&lt;img src=x onerror=alert(1)&gt;gnp.exex")
	}
}

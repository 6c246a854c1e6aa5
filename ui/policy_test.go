package ui

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/identity"
)

var twoForPrinter = identity.Policy{Rules: []identity.PolicyRule{{Class: identity.ClassTwoFactors, Clients: []string{"printer"}}}}

// toSecondFactor goes from the client past the password, and returns the page that follows.
func (b *browserClient) toSecondFactor(change url.Values) response {
	b.t.Helper()
	signIn := b.get(b.get(b.authorizeURL(change)).redirected(b.t))
	return b.follow(b.post("/sign-in", with(signIn.hidden(), "identifier", "alice", "password", password)))
}

// follow follows redirects to pages.
func (b *browserClient) follow(r response) response {
	b.t.Helper()
	for range 5 {
		if r.StatusCode != http.StatusSeeOther || !strings.HasPrefix(r.Header.Get("Location"), "/") {
			return r
		}
		r = b.get(r.Header.Get("Location"))
	}
	return r
}

func TestPolicyRequiresEnrolmentAtSignIn(t *testing.T) {
	w := newWorldUnder(t, twoForPrinter)
	w.addAlice()
	b := w.newBrowser()
	page := b.toSecondFactor(nil)
	page.want(t, 200, "Photo Printer</bdi> requires a second way", "Set one up now")
	page = b.follow(b.post(factorPath, page.hidden()))
	page.want(t, 200, "Set up a second sign-in step", newTOTPPath)

	// The session is for that alone.
	b.get("/account").redirectedTo(t, "/sign-in")
	b.get("/account/password").redirectedTo(t, "/sign-in")
	b.get(totpPath).redirectedTo(t, "/sign-in")
	if to := b.get(w.authorizeURL(nil)).redirected(t); !strings.HasPrefix(to, "/sign-in?") {
		t.Errorf("an authorization request leads to %s", to)
	}
	if to := b.get(w.authorizeURL(url.Values{"prompt": {"none"}})).redirected(t); !strings.Contains(to, "error=login_required") {
		t.Errorf("a silent request leads to %s", to)
	}

	form := b.get(newTOTPPath)
	key := shownKey.FindStringSubmatch(form.body)[1]
	few := b.follow(b.post(newTOTPPath, with(form.hidden(), "code", codeOf(t, key, -1), "name", "Phone")))
	few.want(t, 200, "a recovery code takes its place", "Create codes")
	if strings.Contains(few.body, "are left") {
		t.Errorf("the user never had codes:\n%s", few.body)
	}
	next := regexp.MustCompile(`href="(/authorize[^"]*|/[^"]*interaction=[^"]*)"`).FindStringSubmatch(few.body)
	if next == nil {
		t.Fatalf("the sign-in does not continue:\n%s", few.body)
	}
	b.follow(b.get(html.UnescapeString(next[1]))).want(t, 200, "wants access")
	if session := w.sessionOf(b); session.ACR != "2" || strings.Join(session.AMR, " ") != "pwd otp mfa" || session.Enrolling != "" {
		t.Errorf("the session has acr %s and amr %v", session.ACR, session.AMR)
	}
}

func TestPolicyWithoutEnrolmentRefusesClient(t *testing.T) {
	policy := twoForPrinter
	policy.NoEnrolment = true
	w := newWorldUnder(t, policy)
	w.addAlice()
	b := w.newBrowser()
	page := b.toSecondFactor(nil)
	page.want(t, 200, "Continue without signing in")
	back := b.post(factorPath, page.hidden()).redirected(t)
	if !strings.HasPrefix(back, w.callback) || !strings.Contains(back, "error=unmet_authentication_requirements") {
		t.Errorf("the browser returns to %s", back)
	}
	// The account page does not need a second factor.
	b.signIn("alice", password).redirectedTo(t, "/account?signed_in=1")
	b.get("/account").want(t, 200)
}

func TestEnrolmentNeedsRecentPassword(t *testing.T) {
	w := newWorldUnder(t, twoForPrinter)
	w.addAlice()
	b := w.newBrowser()
	old := []identity.ProvedMethod{{Method: identity.MethodPassword, At: time.Now().Add(-time.Hour)}}
	secret, _, err := w.accounts.StartSession(t.Context(), time.Now(), w.alice(), identity.SessionDetails{ACR: "1", AuthTime: old[0].At, Proofs: old}, nil)
	if err != nil {
		t.Fatal(err)
	}
	recorder := b.withSession(secret)
	page := recorder.follow(recorder.get(w.authorizeURL(nil)))
	page.want(t, 200, "Set one up now")
	recorder.follow(recorder.post(factorPath, page.hidden())).want(t, 200, `name="password"`)
}

func TestSessionIsRaisedInPlace(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	b := w.newBrowser()
	b.signIn("alice", password)
	before := w.sessionOf(b)
	other := w.newBrowser()
	other.signIn("alice", password)
	key := other.setsUpTOTP()

	// What the user can reach is asked for; the password is not.
	page := b.follow(b.get(w.authorizeURL(url.Values{"acr_values": {"2"}})))
	page.want(t, 200, "authenticator", "alice")
	b.follow(b.post(proveTOTPPath, with(page.hidden(), "code", codeOf(t, key, 0)))).want(t, 200, "wants access")
	after := w.sessionOf(b)
	if after.ACR != "2" || len(after.Former()) != 1 || after.Former()[0] != before.ID || !after.AuthTime.Equal(before.AuthTime) {
		t.Errorf("the session has acr %s, names %v and auth_time %v; before, %s and %v", after.ACR, after.Former(), after.AuthTime, before.ID, before.AuthTime)
	}
}

func TestVoluntaryClassThatCannotBeReachedIsIgnored(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	b := w.newBrowser()
	b.signIn("alice", password)
	b.follow(b.get(w.authorizeURL(url.Values{"acr_values": {"phr"}}))).want(t, 200, "wants access")
}

func TestEssentialClass(t *testing.T) {
	essential := func(acr string) url.Values {
		return url.Values{"claims": {`{"id_token":{"acr":{"essential":true,"values":["` + acr + `"]}}}`}}
	}
	w := newWorld(t)
	w.addAlice()
	b := w.newBrowser()
	if to := b.signIn("alice", password); to.StatusCode != http.StatusSeeOther {
		t.Fatal(to.StatusCode)
	}
	if to := b.get(w.authorizeURL(essential("phr"))).redirected(t); !strings.Contains(to, "error=unmet_authentication_requirements") {
		t.Errorf("a class that the user cannot reach leads to %s", to)
	}
	b.setsUpTOTP()
	b.follow(b.get(w.authorizeURL(essential("1")))).want(t, 200, "wants access")
}

func TestNewSignInNeedsBothFactorsAgain(t *testing.T) {
	for name, change := range map[string]url.Values{"prompt": {"prompt": {"login"}}, "max_age": {"max_age": {"0"}}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.addAlice()
			b := w.newBrowser()
			b.signIn("alice", password)
			key := b.setsUpTOTP()
			for proved := time.Now().UnixMilli(); time.Now().UnixMilli() == proved; { // times are compared in milliseconds
			}
			page := b.toSecondFactor(change)
			page.want(t, 200, "authenticator")
			b.follow(b.post(proveTOTPPath, with(page.hidden(), "code", codeOf(t, key, 0)))).want(t, 200, "wants access")
			if session := w.sessionOf(b); session.ACR != "2" || time.Since(session.AuthTime) > 5*time.Minute {
				t.Errorf("the session has acr %s and auth_time %v", session.ACR, session.AuthTime)
			}
		})
	}
}

func TestRememberedSecondFactor(t *testing.T) {
	w := newWorldUnder(t, identity.Policy{RememberSecondFactor: 30 * 24 * time.Hour})
	w.addAlice()
	b := w.newBrowser()
	b.signIn("alice", password)
	key := b.setsUpTOTP()
	b.post("/sign-out", url.Values{})
	page := b.follow(b.signIn("alice", password))
	page.want(t, 200, "Do not ask again on this device for 30 days")
	b.post(proveTOTPPath, url.Values{"code": {codeOf(t, key, 0)}, rememberParam: {"1"}}).redirectedTo(t, "/account?signed_in=1")
	b.post("/sign-out", url.Values{})

	b.signIn("alice", password).redirectedTo(t, "/account?signed_in=1")
	if session := w.sessionOf(b); session.ACR != "2" || strings.Join(session.AMR, " ") != "pwd" {
		t.Errorf("the session has acr %s and amr %v", session.ACR, session.AMR)
	}
	// It is no proof for a change of the account.
	if to := b.get(totpPath).redirected(t); !strings.HasPrefix(to, confirmPath) {
		t.Errorf("a change of the methods leads to %s", to)
	}
	w.newBrowser().signIn("alice", password).redirectedTo(t, factorPath)
	b.post("/sign-out", url.Values{})
	w.updateUser("a", func(u *identity.User) {
		u.Authenticators = append(u.Authenticators, identity.Authenticator{ID: "another", Kind: identity.MethodTOTP})
	})
	b.signIn("alice", password).redirectedTo(t, factorPath)
}

func TestPasswordGrantRefusesUserWithSecondFactor(t *testing.T) {
	w := newWorld(t)
	w.addAliceWithTOTP()
	r := w.newBrowser().request("POST", "/token", url.Values{})
	for range 8 { // the right password is throttled like a wrong one
		if _, err := w.ui.CheckPassword(r, "alice", password); err == nil {
			t.Fatal("the password alone is enough")
		}
	}
	if _, err := w.ui.CheckPassword(r, "alice", password); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("after 8 attempts: %v", err)
	}
}

func (w *world) alice() *identity.User {
	w.t.Helper()
	user, err := w.accounts.User(w.t.Context(), "a")
	if err != nil {
		w.t.Fatal(err)
	}
	return user
}

// withSession returns the browser with another session cookie.
func (b *browserClient) withSession(secret string) *browserClient {
	b.t.Helper()
	recorder := &cookieRecorder{header: http.Header{}}
	identity.SetSessionCookie(recorder, b.url, secret)
	u, err := url.Parse(b.url)
	if err != nil {
		b.t.Fatal(err)
	}
	b.client.Jar.SetCookies(u, (&http.Response{Header: recorder.header}).Cookies())
	return b
}

type cookieRecorder struct{ header http.Header }

func (c *cookieRecorder) Header() http.Header         { return c.header }
func (c *cookieRecorder) Write(b []byte) (int, error) { return len(b), nil }
func (c *cookieRecorder) WriteHeader(int)             {}
